"""From the columns of a table to a ``Dataset``."""

from __future__ import annotations

import numpy as np

from fedjax_compress.data.building import Names, Rows, Said, built, target_of
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.parts import in_two
from fedjax_compress.data.tables.arrays import as_array
from fedjax_compress.data.tables.features import features_of
from fedjax_compress.data.tables.roles import (
    Asked,
    check_asked,
    ids_of,
    labels_of,
    marks_of,
)
from fedjax_compress.data.tables.table import Table
from fedjax_compress.data.tables.texts import tokens_of
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Target


def as_names(names: str | Names) -> Names:
    """Names, of which there may be one or none."""
    return tuple(filter(None, (names,) if isinstance(names, str) else names))


def dataset_of(name: str, tables: list[Table], asked: Asked, holdout: float) -> Dataset:
    """The data of one table, or of two, the second for tests.

    Args:
      name: of the data.
      tables: all rows, or the two parts.
      asked: what the columns are.
      holdout: the share held out of one table without test marks.

    Raises:
      InputError: columns that are not there, or cannot be what they are asked to be.
    """
    asked = check_asked(asked, tables[0])
    for table in tables:
        if not table.rows:
            raise InputError(f"{table.where}: no rows")
    column = asked.test_column
    marks = marks_of(tables[0], column) if column else None
    features, labels, said = _told(tables, asked, marks)
    rows = [
        Rows(name, x, y, _ids(table, asked, part, marks), _more(table, asked))
        for part, (table, x, y) in enumerate(zip(tables, features, labels, strict=True))
    ]
    kind: Target = "positions"
    if asked.labels:
        plain = said._replace(tokens=False)
        kind = target_of(plain, name, *(part.labels for part in rows))
    if kind not in ("class", "positions"):
        said = said._replace(classes=asked.said.classes)
    train, test = rows if len(rows) > 1 else in_two(rows[0], marks, kind, holdout)
    return built(name, kind, said, train, test)


def _told(
    tables: list[Table], asked: Asked, marks: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.ndarray], Said]:
    """Features and labels of each part, and what is known of them."""
    said = asked.said
    if not asked.labels:
        if said.target not in ("auto", "positions"):
            raise InputError(
                f"target={said.target} needs a label; without one, each token of text "
                "is followed by the next"
            )
        tokens, count = tokens_of(tables, asked.text, asked.length + 1, 2)
        if not any(part[:, 1:].any() for part in tokens):
            raise InputError(
                f"{tables[0].where}: no row of {asked.text!r} has two tokens, so that "
                "one follows another; say what to predict, label=NAME"
            )
        said = said._replace(tokens=True, classes=said.classes or count)
        return [x[:, :-1] for x in tokens], [x[:, 1:] for x in tokens], said
    labels, count = labels_of(tables, asked, marks)
    said = said._replace(classes=said.classes or count)
    if not asked.text:
        return features_of(tables, asked.features, asked.categories), labels, said
    tokens, _ = tokens_of(tables, asked.text, asked.length, 1)
    return tokens, labels, said._replace(tokens=True)


def _ids(
    table: Table, asked: Asked, part: int, marks: np.ndarray | None
) -> np.ndarray | None:
    """Client ids of a part; those of the second may be missing."""
    if not asked.client or (part and asked.client not in table.columns):
        return None
    nobody = np.full(table.rows, bool(part)) if marks is None else marks
    return ids_of(table, asked.client, nobody)


def _more(table: Table, asked: Asked) -> dict[str, np.ndarray]:
    """Further columns of a part."""
    return {name: as_array(table, stored) for name, stored in asked.more.items()}
