"""Rows of one's own table of a database, or of a query, as columns."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import listed
from fedjax_compress.data.columns import shown
from fedjax_compress.data.split import test_marks
from fedjax_compress.data.stores.database import described, quoted, tables_of
from fedjax_compress.data.stores.found import (
    FEATURES,
    LABELS,
    Found,
    How,
    Used,
    check_names,
    chosen,
    fitting,
    together,
)
from fedjax_compress.data.stores.store import texts
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Columns

_AT_ONCE = 1_000_000
"""Values that are Python's objects at one time."""
_SHOWN = 20


def table_rows(
    connection: sqlite3.Connection,
    where: str,
    table: str,
    query: str,
    client: str,
    marks: str,
    how: How,
    needed: bool = True,
) -> Found:
    """The rows of a table or of a query.

    Args:
      connection: the database.
      where: what a message calls it.
      table: its name; empty for the only one there is.
      query: a SELECT; empty for all rows of the table.
      client: column of client ids; empty for none.
      marks: column that is 1 for test rows and 0 for others; empty for none.
      how: see ``How``. Without features: all columns of numbers that have no other
        meaning and are not the primary key of the table.
      needed: whether there has to be the column of ids.

    Raises:
      InputError: no such table or column, or rows that cannot be used.
    """
    key = ""
    if not query:
        table = _table(connection, where, table)
        query = f"SELECT * FROM {quoted(table)}"
        keys = [row[1] for row in described(connection, table) if row[5]]
        key = keys[0] if len(keys) == 1 else ""
    cursor = connection.execute(query)
    if cursor.description is None:
        raise InputError(f"{where}: a query must be a SELECT, which gives rows")
    names = [column[0] for column in cursor.description]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"{where}: the query gives {shown(sorted(twice))} twice; rename with AS"
        )
    client = client if needed or client in names else ""
    others = [name for name in (client, marks, *how.more.values()) if name]
    check_names(others, names, where)
    y = chosen(listed(how.label), names, LABELS, "label", where, needed=False)
    x = listed(how.features)
    check_names(x, names, where)
    wanted = {*x, *others, *y} if x else set(names)
    columns = _columns(cursor, names, wanted, where)
    if not x:
        left = [n for n in names if n not in {*others, *y, key}]
        x = [n for n in left if _is_numbers(columns[n], n, where)]
        x = x or chosen((), left, FEATURES, "features", where)
    for name in (*x, *y, *how.more.values()):
        columns[name] = _whole(columns[name], name, where)
    return fitting(
        how,
        where,
        together([columns[name] for name in x], where),
        together([columns[name] for name in y], where) if y else None,
        _ids(columns[client], client, where) if client else None,
        {name: columns[stored] for name, stored in how.more.items()},
        Used(tuple(x), tuple(y)),
        names,
        _marks(columns[marks], marks, where) if marks else None,
    )


def _table(connection: sqlite3.Connection, where: str, table: str) -> str:
    """The table that is meant."""
    names = list(tables_of(connection))
    if table and table not in names:
        hint = registry.nearest(table, names) if names else "it has none"
        raise InputError(f"{where} has no table {table!r}; {hint}")
    if not table and len(names) != 1:
        there = f"there are {shown(names)}" if names else "the database has none"
        raise InputError(f"{where}: say table=NAME or query='SELECT ...'; {there}")
    return table or names[0]


def _columns(
    cursor: sqlite3.Cursor, names: list[str], wanted: set[str], where: str
) -> Columns:
    """What stands in the wanted columns: numbers, or else objects."""
    spots = {name: spot for spot, name in enumerate(names) if name in wanted}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in spots}
    while rows := cursor.fetchmany(max(1, _AT_ONCE // len(names))):
        for name, spot in spots.items():
            parts[name].append(_array([row[spot] for row in rows]))
    if not all(parts.values()):
        raise InputError(f"{where}: no rows")
    return {name: _joined(found) for name, found in parts.items()}


def _array(values: list[Any]) -> np.ndarray:
    if {type(value) for value in values} <= {int, float}:
        return np.array(values)
    result = np.empty(len(values), object)
    result[:] = values
    return result


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if any(part.dtype == object for part in parts):
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


def _is_numbers(column: np.ndarray, name: str, where: str) -> bool:
    """Whether a column is one of numbers.

    Raises:
      InputError: numbers in some rows, and none in others.
    """
    if column.dtype != object:
        return True
    if any(isinstance(value, (int, float)) for value in column):
        raise _odd(column, name, where)
    return False


def _odd(column: np.ndarray, name: str, where: str) -> InputError:
    """What is wrong with the first value of a column that is of another kind."""
    numbers = any(isinstance(value, (int, float)) for value in column)
    right: tuple[type, ...] = (int, float) if numbers else (str,)
    row, value = next((i, v) for i, v in enumerate(column) if not isinstance(v, right))
    if value is None:
        cure = f"leave such rows out with WHERE, or say COALESCE({name}, ...)"
        return InputError(f"{where}: {name!r} is NULL in row {row}; {cure} in a query")
    found = "bytes" if isinstance(value, bytes) else f"the text {str(value)[:_SHOWN]!r}"
    other = "numbers in others" if numbers else "not read"
    return InputError(
        f"{where}: {name!r} holds {found} in row {row}, {other}; "
        "say features=(...) without it"
    )


def _whole(column: np.ndarray, name: str, where: str) -> np.ndarray:
    """A column that has a number in each row, or a text in each.

    Raises:
      InputError: others.
    """
    if column.dtype == object and not all(isinstance(v, str) for v in column):
        raise _odd(column, name, where)
    return column


def _ids(column: np.ndarray, name: str, where: str) -> np.ndarray:
    """Client ids; NULL is nobody.

    Raises:
      InputError: numbers and texts.
    """
    if column.dtype != object:
        return column
    kinds = {type(value) for value in column} - {type(None)}
    if kinds <= {int, float}:
        return np.array([-1 if value is None else value for value in column])
    if not kinds <= {str, bytes}:
        raise InputError(
            f"{where}: client ids in {name!r} must be numbers in all rows, or texts"
        )
    return texts(["" if value is None else value for value in column]).astype(str)


def _marks(column: np.ndarray, name: str, where: str) -> np.ndarray:
    whole = column.astype(str) if column.dtype == object else column
    return test_marks(whole, where, name)
