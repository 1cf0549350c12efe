"""Text as one of some values, numbered in sorted order."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_compress.data.tables.arrays import FILL, check_whole, column_of
from fedjax_compress.data.tables.table import Table
from fedjax_compress.errors import InputError

_MISSING = ("?", "-", "na", "n/a", "#n/a", "nan", "null", "none")


def values_of(table: Table, name: str, cure: str = FILL) -> list[str]:
    """The values of a column of text, sorted.

    Raises:
      InputError: an empty cell; or nothing but numbers and marks of missing ones.
    """
    column = _text(table, name)
    check_whole(table, name, column, cure)
    values = sorted(column.unique().to_pylist())
    blank = [value for value in values if not value.strip()]
    odd = [value for value in other_than_numbers(values) if value not in blank]
    marks = [value for value in odd if value.strip().lower() in _MISSING]
    if blank or (odd == marks and 0 < len(odd) < len(values)):
        found = (blank or odd)[0]
        held = "is empty" if blank else f"holds {found!r}"
        place = table.place(row_of(table, name, found))
        raise InputError(f"{place}: column {name!r} {held}; {cure}")
    return values


def other_than_numbers(values: list[str]) -> list[str]:
    """Those that are no numbers."""

    def is_number(value: str) -> bool:
        try:
            return np.isfinite(float(value))
        except ValueError:
            return False

    return [value for value in values if not is_number(value)]


def codes_of(table: Table, name: str, values: list[str]) -> np.ndarray:
    """The place of each row's value among ``values``, int32 [rows]; -1 for no such."""
    import pyarrow
    from pyarrow import compute

    known = pyarrow.array(values, pyarrow.large_string())
    codes = compute.index_in(_text(table, name), value_set=known)
    return codes.fill_null(-1).to_numpy().astype(np.int32)


def row_of(table: Table, name: str, value: str) -> int:
    """The first row that holds a value."""
    from pyarrow import compute

    return int(compute.index(_text(table, name), value).as_py())


def _text(table: Table, name: str) -> Any:
    import pyarrow

    return column_of(table, name).cast(pyarrow.large_string())
