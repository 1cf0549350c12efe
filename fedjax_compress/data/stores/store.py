"""Rows that are stored client by client, gathered into columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Columns

PICTURES = ("pixels", "image", "images")
"""What flat lists of numbers are called that are square pictures."""


class Piece(NamedTuple):
    """Some rows of one client.

    Attributes:
      client: its id.
      columns: [rows, ...] by name; of texts an array of objects.
    """

    client: str
    columns: Columns


class Store(NamedTuple):
    """Rows of many clients.

    Attributes:
      where: what a message calls them.
      rows: how many there are.
      names: of the columns of the first client.
      pieces: of given columns, the rows in order.
      flat: whether a row of a column is a flat list of numbers whatever its shape was.
    """

    where: str
    rows: int
    names: list[str]
    pieces: Callable[[Sequence[str]], Iterator[Piece]]
    flat: bool = False


def texts(values: Iterable[bytes | str]) -> np.ndarray:
    """Texts as an array of objects; bytes that are no UTF-8 are replaced."""
    found = [
        v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values
    ]
    result = np.empty(len(found), object)
    result[:] = found
    return result


def gathered(store: Store, names: Sequence[str]) -> tuple[np.ndarray, Columns]:
    """Client ids [rows] and the named columns [rows, ...], row by row.

    Whole numbers of a flat picture are uint8 where all fit, as in the arrays that they
    were.

    Raises:
      InputError: rows of unequal shape or type, or not as many as there should be.
    """
    found: Columns = {}
    owners: list[str] = []
    counts: list[int] = []
    start = 0
    for client, columns in store.pieces(names):
        count = _rows(columns, names, f"{store.where}, client {client!r}")
        for name in names:
            column = columns[name]
            if start + count > store.rows:
                break
            if name not in found:
                small = store.flat and _is_picture(name, column) and _is_small(column)
                kind = np.uint8 if small else column.dtype
                found[name] = np.empty((store.rows, *column.shape[1:]), kind)
            found[name] = _fitting(found[name], name, column, client, store.where)
            found[name][start : start + count] = column
        owners.append(client)
        counts.append(count)
        start += count
    if start != store.rows or not start:
        more = f", but {store.rows} are announced" * (start != store.rows)
        raise InputError(f"{store.where}: {start} rows{more}")
    return np.repeat(np.array(owners), counts), found


def _rows(columns: Columns, names: Sequence[str], where: str) -> int:
    """How many rows the columns have.

    Raises:
      InputError: unequally many.
    """
    for name in names:
        if not columns[name].ndim:
            raise InputError(f"{where}: {name} is a single value, not rows")
    counts = {name: len(columns[name]) for name in names}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise InputError(f"{where}: rows must be equally many, not {found}")
    return counts[names[0]]


def _fitting(
    whole: np.ndarray, name: str, column: np.ndarray, client: str, where: str
) -> np.ndarray:
    """The array to which more rows are added, widened where they would not fit."""
    small = whole.dtype == np.uint8 and column.dtype == np.int64
    if column.shape[1:] != whole.shape[1:] or (
        column.dtype != whole.dtype and not small
    ):
        raise InputError(
            f"{where}: {name} of client {client!r} holds {column.dtype} "
            f"{column.shape[1:]}, that of others {whole.dtype} {whole.shape[1:]}; rows "
            "must be alike"
        )
    return whole.astype(np.int64) if small and not _is_small(column) else whole


def _is_picture(name: str, column: np.ndarray) -> bool:
    return bool(column.ndim == 2 and square(name, column.shape[1]))


def _is_small(column: np.ndarray) -> bool:
    """Whether whole numbers fit uint8."""
    whole = column.dtype == np.int64 and column.size
    return bool(whole and column.min() >= 0 and column.max() <= 255)


def square(name: str, size: int) -> tuple[int, ...]:
    """The shape of a square picture of so many numbers, grey or RGB; () for none."""
    for channels in (1, 3):
        side = math.isqrt(size // channels)
        if name in PICTURES and side > 1 and side * side * channels == size:
            return (side, side, 3) if channels == 3 else (side, side)
    return ()
