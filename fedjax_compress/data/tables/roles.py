"""Which columns are what: features, labels, clients, rows for tests."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from fedjax_compress.data.building import Names, Said
from fedjax_compress.data.columns import shown
from fedjax_compress.data.split import test_marks
from fedjax_compress.data.tables.arrays import (
    as_array,
    check_whole,
    column_of,
    kind_of,
    what,
)
from fedjax_compress.data.tables.categories import codes_of, row_of, values_of
from fedjax_compress.data.tables.table import Table
from fedjax_compress.errors import InputError

TableTarget = Literal["auto", "class", "positions", "several", "number"]
"""What labels of a table hold; ``auto`` for the rule of ``target_of``."""
_PARTS = {"train", "test"}


class Asked(NamedTuple):
    """What the options of a source say of the columns of a table.

    Attributes:
      labels: columns to predict; empty for a text's next token.
      features: columns to learn from; empty for all that have no other part.
      client, test_column, text: columns; empty for none.
      length: most tokens of a row of text.
      categories: most values of a column of text that is none.
      more: further columns, name -> column.
      said: of the labels and features.
    """

    labels: Names
    features: Names
    client: str
    test_column: str
    text: str
    length: int
    categories: int
    more: dict[str, str]
    said: Said


def check_asked(asked: Asked, table: Table) -> Asked:
    """What is asked, with all columns named.

    Raises:
      InputError: options that do not fit each other, or a column that is not there.
    """
    if asked.length < 1 or asked.categories < 1:
        raise InputError(
            "length and categories must be at least 1, not "
            f"{asked.length} and {asked.categories}"
        )
    if asked.text and asked.features:
        raise InputError("give text or features, not both")
    if asked.text in asked.labels:
        raise InputError(
            f"text and label both name {asked.text!r}; leave label out for the next "
            "token"
        )
    if not (asked.labels or asked.text):
        if len(table.classes) != 1:
            raise InputError(
                "say which column to predict, label=NAME; "
                f"{table.where} has {shown(list(table.columns))}"
            )
        asked = asked._replace(labels=tuple(table.classes))
    named = [*asked.labels, *asked.more.values()]
    named += filter(None, (asked.client, asked.test_column))
    if not (asked.text or asked.features):
        rest = tuple(name for name in table.columns if name not in named)
        if not rest:
            raise InputError(f"{table.where} has no column left for features")
        asked = asked._replace(features=rest)
    for name in (*named, *asked.features, *filter(None, [asked.text])):
        table.column(name)
    return asked


def labels_of(
    tables: list[Table], asked: Asked, marks: np.ndarray | None
) -> tuple[list[np.ndarray], int]:
    """Labels of each part, and how many classes there are, 0 where nothing says.

    Text is classes in sorted order of those that the training rows have; several
    columns stand side by side, [rows, columns].

    Args:
      tables: the parts.
      asked: names them.
      marks: rows of the first part that are for tests, bool [rows]; None for unknown.

    Raises:
      InputError: an empty cell, what can be no label, a class that no training row has.
    """
    if len(asked.labels) > 1:
        columns = [[as_array(table, n) for n in asked.labels] for table in tables]
        for name, column in zip(asked.labels, columns[0], strict=True):
            if column.ndim > 1:
                raise InputError(f"column {name!r} holds arrays; it must be alone")
        return [np.stack(part, axis=1) for part in columns], 0
    (name,) = asked.labels
    kinds = [kind_of(column_of(table, name)) for table in tables]
    if "text" not in kinds:
        return [as_array(table, name) for table in tables], tables[0].classes.get(
            name, 0
        )
    if len(set(kinds)) > 1:
        types = " and ".join(what(column_of(table, name)) for table in tables)
        raise InputError(f"label {name!r} is {types} in the two parts; save it alike")
    if asked.said.target not in ("auto", "class"):
        raise InputError(
            f"{tables[0].where}: label {name!r} is text, which makes classes, but "
            f"target={asked.said.target}"
        )
    return _classes(tables, name, marks)


def _classes(
    tables: list[Table], name: str, marks: np.ndarray | None
) -> tuple[list[np.ndarray], int]:
    """Classes of a column of text, and their number."""
    values = values_of(tables[0], name)
    if marks is not None and not marks.all():
        codes = codes_of(tables[0], name, values)
        values = [values[code] for code in np.unique(codes[~marks])]
    for table in tables:
        strange = sorted(set(values_of(table, name)) - set(values))
        if strange:
            place = table.place(row_of(table, name, strange[0]))
            raise InputError(
                f"{place}: label {strange[0]!r} is that of no training row; they have "
                f"{shown(values)}"
            )
    return [codes_of(table, name, values) for table in tables], len(values)


def ids_of(table: Table, name: str, nobody: np.ndarray) -> np.ndarray:
    """Client ids [rows]: whole numbers, or text, which times become.

    Args:
      table: one part.
      name: of the column.
      nobody: rows whose id may be missing, bool [rows]; their id is -1 or empty then.

    Raises:
      InputError: another row without id, or ids that are neither.
    """
    import pyarrow
    from pyarrow import types

    column = column_of(table, name)
    kind = kind_of(column)
    if kind not in ("number", "text", "time"):
        raise InputError(
            f"{table.where}: column {name!r} is {what(column)}; client ids must be "
            "numbers, text or times"
        )
    missing = np.asarray(column.is_null().to_numpy())
    if (missing & ~nobody).any():
        row = int((missing & ~nobody).argmax())
        raise InputError(
            f"{table.place(row)}: column {name!r} is empty, but each row for training "
            "needs its client"
        )
    if types.is_null(column.type):
        return np.full(len(column), -1)
    if kind == "number":
        if types.is_decimal(column.type):
            column = column.cast(pyarrow.float64())
        if types.is_boolean(column.type):
            column = column.cast(pyarrow.int8())
        return np.asarray(column.fill_null(-1).to_numpy())
    text = column.cast(pyarrow.large_string()).fill_null("")
    return np.array(text.to_pylist(), np.str_)


def marks_of(table: Table, name: str) -> np.ndarray:
    """Rows for tests, bool [rows]: 1 or true in a column, or the word test.

    Raises:
      InputError: anything but these and 0, false or train; an empty cell.
    """
    column = column_of(table, name)
    check_whole(table, name, column)
    if kind_of(column) == "text":
        values = values_of(table, name)
        if set(values) <= _PARTS:
            return codes_of(table, name, ["test"]) == 0
        raise InputError(
            f"{table.where}: column {name!r} holds {shown(values)}, but must hold 1, "
            "true or test for a test row, and 0, false or train for another"
        )
    return test_marks(as_array(table, name), table.where, name)
