"""Databases of TensorFlow Federated: an example a row, a split by its name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.stores.example import features_of
from fedjax_compress.data.stores.store import Piece, Store, texts
from fedjax_compress.errors import InputError

TABLES = {
    "examples": {"split_name", "client_id", "serialized_example_proto"},
    "client_metadata": {"client_id", "split_name"},
}
"""Tables and columns that such a database has."""
_ROWS = "FROM examples WHERE split_name = ?"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")


def splits(connection: sqlite3.Connection) -> list[str]:
    """Names of the splits, in sorted order."""
    wanted = "SELECT DISTINCT split_name FROM client_metadata ORDER BY split_name"
    return [name for (name,) in connection.execute(wanted)]


def one_split(names: list[str], given: str, ending: str, where: str) -> str:
    """The split that is given, or the only one with this ending, or the only one.

    Raises:
      InputError: no such split, or several that might be meant.
    """
    if given and given not in names:
        hint = registry.nearest(given, names) if names else "it has none"
        raise InputError(f"{where} has no split {given!r}; {hint}")
    found = [given] if given else [name for name in names if name.endswith(ending)]
    found = found or names
    if len(found) != 1:
        option = "split" if ending == "train" else "test_split"
        there = f"there are {', '.join(names)}" if names else "there is none"
        raise InputError(f"{where}: say {option}=NAME; {there}")
    return found[0]


def paired(names: list[str], split: str) -> str:
    """The split that is called like one to train on, but test; empty for none."""
    other = split.removesuffix("train") + "test"
    return other if split.endswith("train") and other in names else ""


def examples(connection: sqlite3.Connection, where: str, split: str) -> Store:
    """The rows of one split, in the order in which they are stored.

    Raises:
      InputError: no row, or one that is no example.
    """
    where = f"{where}, split {split}"
    (rows,) = connection.execute(f"SELECT count(*) {_ROWS}", [split]).fetchone()
    if not rows:
        raise InputError(f"{where}: no rows")
    query = f"SELECT client_id, serialized_example_proto {_ROWS} ORDER BY rowid"
    first = connection.execute(f"{query} LIMIT 1", [split]).fetchone()
    names = list(_parsed(first[1], None, 0, where))

    def pieces(wanted: Sequence[str]) -> Iterator[Piece]:
        for row, (client, data) in enumerate(connection.execute(query, [split])):
            found = _parsed(data, wanted, row, where)
            columns = {name: _row(found, name, row, where) for name in wanted}
            yield Piece(client, columns)

    return Store(where, rows, sorted(names), pieces, flat=True)


def _parsed(
    data: object, wanted: Sequence[str] | None, row: int, where: str
) -> dict[str, np.ndarray]:
    try:
        if not isinstance(data, bytes):
            raise ValueError(f"{type(data).__name__} instead of bytes")
        return features_of(data, wanted)
    except ValueError as error:
        raise InputError(
            f"{where}: row {row} is no serialized tf.train.Example: {error}"
        ) from None


def _row(found: dict[str, np.ndarray], name: str, row: int, where: str) -> np.ndarray:
    """One row of a column, [1, values]; a single value stands alone, [1]."""
    if name not in found:
        raise InputError(f"{where}: row {row} has no {name!r}; others have")
    values = found[name]
    if not len(values):
        raise InputError(f"{where}: {name!r} is empty in row {row}")
    if values.dtype == object:
        if values[0].startswith(_PICTURES):
            raise InputError(
                f"{where}: {name!r} holds pictures as files, which are not read; store "
                "their numbers"
            )
        values = texts(values)
    return values if len(values) == 1 else values[None]
