"""An SQLite database, opened to be read only."""

from __future__ import annotations

import contextlib
import lzma
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fedjax_compress.data.columns import find
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.errors import InputError, one_line

_BEGIN = b"SQLite format 3\0"
_WAL = b"\2"
"""What byte 18 of a database says that keeps what is new in a second file."""


@contextlib.contextmanager
def opened(path: str) -> Iterator[sqlite3.Connection]:
    """A connection that reads and never writes; the file may be compressed by LZMA.

    A compressed one is unpacked into a temporary folder that goes away in the end.

    Raises:
      InputError: no such file, no database, or whatever SQLite finds wrong inside.
    """
    file = find(path, "file")
    if file.is_dir():
        raise InputError(f"{path} is a folder, but sqlite reads one file")
    with contextlib.ExitStack() as stack:
        try:
            if _is_compressed(file):
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                file = _unpacked(file, Path(folder) / "database")
            _check_kind(file, path)
        except (lzma.LZMAError, EOFError):
            raise InputError(
                f"{path} is compressed by LZMA, but damaged or not whole; get it again"
            ) from None
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{path} cannot be read: {reason}") from None
        try:
            connection = sqlite3.connect(_address(file), uri=True)
            stack.callback(connection.close)
            yield connection
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise InputError(f"{path}: SQLite says: {one_line(error)}") from None


def tables_of(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table and view by its name."""
    kinds = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
    names = [name for (name,) in connection.execute(kinds)]
    return {
        name: [row[1] for row in described(connection, name)]
        for name in names
        if not name.startswith("sqlite_")
    }


def described(connection: sqlite3.Connection, table: str) -> list[tuple]:
    """What SQLite says of each column of a table: its name is the second, and so on."""
    return connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()


def quoted(name: str) -> str:
    """A name of a table or column as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def _is_compressed(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(4).startswith((b"\xfd7zX", b"]\0\0"))


def _unpacked(file: Path, place: Path) -> Path:
    with lzma.open(file, "rb") as stream, open(place, "wb") as out:
        shutil.copyfileobj(stream, out)
    return place


def _check_kind(file: Path, path: str) -> None:
    with open(file, "rb") as stream:
        if stream.read(len(_BEGIN)) != _BEGIN:
            raise InputError(f"{path} is no SQLite database: it {describe_kind(file)}")


def _address(file: Path) -> str:
    """Where SQLite finds the file, and that it must not write.

    A database that keeps what is new in a second file, and has none, is closed; SQLite
    would make one even to read, unless it is told that nothing will change.
    """
    file = file.resolve()
    with open(file, "rb") as stream:
        second = stream.read(19)[18:] == _WAL
    closed = second and not file.with_name(file.name + "-wal").exists()
    return f"{file.as_uri()}?mode=ro{'&immutable=1' if closed else ''}"
