"""Rows of one part as files have them: columns of Arrow by name."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from fedjax_compress import registry
from fedjax_compress.data.columns import shown
from fedjax_compress.errors import InputError

_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


class Table(NamedTuple):
    """One part.

    Attributes:
      where: what a message calls it.
      files: path and number of rows of each file, in the order of the rows.
      columns: ``pyarrow.ChunkedArray`` [rows] by name; a field of a structure by its
        dotted name.
      classes: how many classes a column has, of those whose file says so.
    """

    where: str
    files: tuple[tuple[str, int], ...]
    columns: dict[str, Any]
    classes: dict[str, int]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(rows for _, rows in self.files)

    def place(self, row: int) -> str:
        """Where a row stands, counted from 0 in its file: ``a.csv, row 3``."""
        for file, rows in self.files:
            if row < rows:
                return f"{file}, row {row}"
            row -= rows
        raise IndexError(row)

    def column(self, name: str) -> Any:
        """The column of that name.

        Raises:
          InputError: there is none.
        """
        if name not in self.columns:
            raise InputError(f"{self.where} has no column {name!r}; {self.hint(name)}")
        return self.columns[name]

    def hint(self, name: str) -> str:
        """The closest name of a column, or all, but not hundreds."""
        names = list(self.columns)
        found = registry.nearest(name, names) if name else "known"
        return found if "did you mean" in found else f"it has {shown(names)}"


def is_index(name: str) -> bool:
    """Whether a column is numbers of rows that pandas has written beside the data."""
    return bool(_INDEX.fullmatch(name))


def flat(table: Any) -> dict[str, Any]:
    """The columns of a ``pyarrow.Table`` by name, fields of structures by dotted name.

    Pictures, structures of bytes and a path, stay whole.

    Raises:
      InputError: two columns of one name, without saying where.
    """
    found: dict[str, Any] = {}

    def add(name: str, column: Any) -> None:
        if is_struct(column.type) and not is_picture(column.type):
            for i, part in enumerate(column.flatten()):
                add(f"{name}.{column.type.field(i).name}", part)
        elif name in found:
            raise InputError(f"has two columns {name!r}; rename one")
        else:
            found[name] = column

    for name, column in zip(table.column_names, table.columns, strict=True):
        add(name, column)
    return found


def is_struct(kind: Any) -> bool:
    """Whether a type of Arrow has named fields."""
    import pyarrow

    return pyarrow.types.is_struct(kind)


def is_picture(kind: Any) -> bool:
    """Whether a type of Arrow is that of pictures in files: their bytes and a path."""
    import pyarrow

    if not is_struct(kind):
        return False
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    binary = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    return set(fields) == {"bytes", "path"} and any(f(fields["bytes"]) for f in binary)
