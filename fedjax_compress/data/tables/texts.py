"""Text as tokens: bytes, or numbers that a tokenizer has made."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_compress.data.tables.arrays import (
    check_whole,
    column_of,
    is_list,
    kind_of,
    what,
)
from fedjax_compress.data.tables.table import Table
from fedjax_compress.errors import InputError

BYTES = 257
"""Tokens of text as bytes: 0 for padding, and 1 + byte."""


def tokens_of(
    tables: list[Table], name: str, length: int, least: int
) -> tuple[list[np.ndarray], int]:
    """Tokens of a column, int32 [rows, longest], 0 after the last of a row.

    Text is 1 + byte of its UTF-8; lists of whole numbers are tokens as they are.

    Args:
      tables: the parts.
      name: of the column.
      length: most tokens of a row; those after them are left out.
      least: fewest, with padding.

    Returns:
      An array for each part, of one length, and the number of tokens there may be; for
      lists, one more than the largest.

    Raises:
      InputError: neither text nor lists of whole numbers, an empty cell, a length below
        1, tokens below 0 or of more than 32 bits.
    """
    rows = [_rows(table, name, length) for table in tables]
    longest = max((len(row) for part in rows for row in part), default=0)
    found = []
    for part in rows:
        tokens = np.zeros((len(part), max(least, longest)), np.int32)
        for row, said in enumerate(part):
            tokens[row, : len(said)] = said
        found.append(tokens)
    if kind_of(column_of(tables[0], name)) == "text":
        return found, BYTES
    return found, 1 + max(int(part.max(initial=0)) for part in found)


def _rows(table: Table, name: str, length: int) -> list[np.ndarray]:
    """The first tokens of each row."""
    column = column_of(table, name)
    check_whole(table, name, column)
    if kind_of(column) == "text":
        return [
            np.frombuffer(text.encode()[:length], np.uint8).astype(np.int32) + 1
            for chunk in column.chunks
            for text in chunk.to_pylist()
        ]
    return _lists(table, name, column, length)


def _lists(table: Table, name: str, column: Any, length: int) -> list[np.ndarray]:
    """The first numbers of each list."""
    from pyarrow import types

    kind = column.type
    if not (is_list(kind) and types.is_integer(kind.value_type)):
        raise InputError(
            f"{table.where}: column {name!r} is {what(column)}; text must be text, or "
            "lists of whole numbers"
        )
    found: list[np.ndarray] = []
    for chunk in column.chunks:
        for value in chunk:
            tokens = value.values
            if tokens.null_count:
                place = table.place(len(found))
                raise InputError(f"{place}: column {name!r} holds an empty token")
            row = tokens.to_numpy()[:length]
            if row.size and not 0 <= row.min() <= row.max() < 2**31:
                place = table.place(len(found))
                raise InputError(
                    f"{place}: column {name!r} holds tokens outside 0..2^31-1"
                )
            found.append(row.astype(np.int32))
    return found
