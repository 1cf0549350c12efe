"""What somebody else wrote, held to what its type promises."""

from fedjax_compress.checks import figures, marks, parts, returned

__all__ = ["figures", "marks", "parts", "returned"]
