"""Databases of FedJAX: a client a row, its examples in compressed msgpack."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedjax_compress.data.stores.store import Piece, Store, texts
from fedjax_compress.errors import InputError, one_line

TABLES = {"federated_data": {"client_id", "data", "num_examples"}}
"""Tables and columns that such a database has."""
_ARRAY, _TEXTS = 1, 4
"""FedJAX's types of msgpack's extensions: arrays of numbers, and of bytes."""


def clients(connection: sqlite3.Connection, where: str) -> Store:
    """The rows of all clients, in the order in which these are stored.

    Raises:
      InputError: no client, or one that is not what FedJAX writes.
    """
    count = "SELECT count(*), sum(num_examples) FROM federated_data"
    number, rows = connection.execute(count).fetchone()
    if not number:
        raise InputError(f"{where}: table federated_data has no clients")
    query = "SELECT client_id, data FROM federated_data ORDER BY rowid"
    name, data = connection.execute(f"{query} LIMIT 1").fetchone()
    names = list(_columns(data, _id(name), where))

    def pieces(wanted: Sequence[str]) -> Iterator[Piece]:
        for name, data in connection.execute(query):
            client = _id(name)
            found = _columns(data, client, where)
            yield Piece(client, {n: _column(found, n, client, where) for n in wanted})

    return Store(where, int(rows or 0), names, pieces)


def _id(stored: bytes | str | int) -> str:
    if isinstance(stored, bytes):
        return stored.decode("utf-8", "backslashreplace")
    return str(stored)


def _columns(data: Any, client: str, where: str) -> dict[str, Any]:
    """What is stored of a client by name."""
    import msgpack

    try:
        found = msgpack.unpackb(zlib.decompress(data), ext_hook=_extension, raw=False)
        if not isinstance(found, dict) or not all(isinstance(n, str) for n in found):
            raise ValueError("no columns by name")
    except (ValueError, TypeError, zlib.error, msgpack.UnpackException) as error:
        raise InputError(
            f"{where}: data of client {client!r} are not what FedJAX writes, msgpack "
            f"compressed by zlib: {one_line(error)}"
        ) from None
    return found


def _column(found: dict[str, Any], name: str, client: str, where: str) -> np.ndarray:
    if name not in found:
        raise InputError(f"{where}: client {client!r} has no {name!r}; others have")
    column = found[name]
    if not isinstance(column, np.ndarray) or not column.ndim:
        raise InputError(
            f"{where}: {name!r} of client {client!r} is no array with a row for each "
            "example"
        )
    return column


def _extension(code: int, data: bytes) -> Any:
    """An array: its shape, and the name of its type and its bytes, or its texts.

    Nothing is made of it but numbers and texts.
    """
    import msgpack

    if code not in (_ARRAY, _TEXTS):
        return None
    parts = msgpack.unpackb(data, raw=True)
    if code == _TEXTS:
        shape, values = parts
        return texts(values).reshape(shape)
    shape, name, values = parts
    kind = np.dtype(str(name, "ascii"))
    if kind.kind not in "biuf":
        raise ValueError(f"an array of {kind}")
    return np.frombuffer(values, kind).reshape(shape)
