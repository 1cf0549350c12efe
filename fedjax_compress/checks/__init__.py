"""What somebody else wrote, held to what its type promises."""

from fedjax_compress.checks import marks, parts, returned

__all__ = ["marks", "parts", "returned"]
