"""Columns side by side as the features of a row."""

from __future__ import annotations

import numpy as np

from fedjax_compress.data.building import Names
from fedjax_compress.data.tables.arrays import (
    as_array,
    check_size,
    column_of,
    kind_of,
    what,
)
from fedjax_compress.data.tables.categories import (
    codes_of,
    other_than_numbers,
    row_of,
    values_of,
)
from fedjax_compress.data.tables.table import Table
from fedjax_compress.errors import InputError

_LEAVE = "leave the column out by naming those to read, features=(a, b)"
_CURE = f"fill it, leave the row out, or {_LEAVE}"


def features_of(tables: list[Table], names: Names, most: int) -> list[np.ndarray]:
    """Features of each part.

    One column of lists or of pictures is taken as it is, [rows, ...]. All else stands
    side by side, [rows, numbers], in the order of the columns: a number or a list as it
    is, text as one number for each of its values in all parts, in sorted order, 1 for
    the row's value and 0 for the others. uint8 stays if all are, else they become
    float32.

    Args:
      tables: the parts.
      names: of the columns.
      most: values that a column of text may have.

    Raises:
      InputError: an empty cell, a time, too many values, or columns that cannot stand
        side by side.
    """
    if len(names) == 1 and _kind(tables[0], names[0]) in ("array", "picture"):
        return [as_array(table, names[0], _CURE) for table in tables]
    blocks: list[list[np.ndarray]] = [[] for _ in tables]
    for name in names:
        for block, array in zip(blocks, _block(tables, name, most), strict=True):
            block.append(array)
    return [np.concatenate(block, axis=1) for block in blocks]


def _kind(table: Table, name: str) -> str:
    return kind_of(column_of(table, name))


def _block(tables: list[Table], name: str, most: int) -> list[np.ndarray]:
    """One column in each part, [rows, numbers]."""
    kinds = [_kind(table, name) for table in tables]
    if len(set(kinds)) > 1:
        types = " and ".join(what(column_of(table, name)) for table in tables)
        raise InputError(f"column {name!r} is {types} in the two parts; save it alike")
    if kinds[0] == "text":
        return _one_hot(tables, name, most)
    if kinds[0] in ("time", "other"):
        found = what(column_of(tables[0], name))
        raise InputError(
            f"{tables[0].where}: column {name!r} is {found}, which is no feature; save "
            f"it as numbers, or {_LEAVE}"
        )
    return [_numbers(table, name) for table in tables]


def _numbers(table: Table, name: str) -> np.ndarray:
    """A column of numbers or of lists, [rows, numbers]."""
    array = as_array(table, name, _CURE)
    if array.ndim > 2:
        raise InputError(
            f"{table.where}: column {name!r} holds arrays {list(array.shape[1:])}, "
            f"which stand alone; say features={name} for them, or {_LEAVE}"
        )
    array = array[:, None] if array.ndim == 1 else array
    for column in array.T:
        check_size(table, name, column)
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def _one_hot(tables: list[Table], name: str, most: int) -> list[np.ndarray]:
    """A column of text as one number for each of its values."""
    found = [values_of(table, name, _CURE) for table in tables]
    values = sorted(set().union(*found))
    if len(values) > most:
        odd = other_than_numbers(values)
        if 2 * len(odd) < len(values):
            table = next(t for t, v in zip(tables, found, strict=True) if odd[0] in v)
            place = table.place(row_of(table, name, odd[0]))
            raise InputError(
                f"{place}: column {name!r} holds {odd[0][:40]!r}, which is no number, "
                f"and {len(odd) - 1} more such values; mend them, or {_LEAVE}"
            )
        raise InputError(
            f"{tables[0].where}: column {name!r} is text with {len(values):,} "
            f"different values, more than categories={most}; {_LEAVE}, or take it "
            f"alone as text={name}"
        )
    eye = np.eye(len(values), dtype=np.float32)
    return [eye[codes_of(table, name, values)] for table in tables]
