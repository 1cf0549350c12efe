"""Small data sets for the tests of this room."""

from made import make, shared

__all__ = ["make", "shared"]
