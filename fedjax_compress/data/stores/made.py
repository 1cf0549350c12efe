"""From columns of numbers and texts to a ``Dataset``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjax_compress.data.building import Rows, built, target_of
from fedjax_compress.data.characters import (
    check_sequences,
    first_characters,
    last_held_out,
    next_characters,
)
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.ids import check_ids, number_clients
from fedjax_compress.data.parts import in_two, inverted
from fedjax_compress.data.stores.found import Found, How
from fedjax_compress.errors import InputError

_DIGITS = 10


def made(name: str, first: Found, second: Found | None, how: How) -> Dataset:
    """The data of rows and, where there are some, test rows.

    Texts without labels are sequences whose label is the next character; those with
    labels are rows of characters. Labels that are texts are classes, in sorted order,
    or, where all are whole numbers, those numbers.

    Args:
      name: of the data.
      first: all rows, or those to learn from.
      second: rows to test on, or None.
      how: see ``How``.

    Raises:
      InputError: rows that cannot be used; see ``data.check``.
    """
    if second is not None and not how.same_clients:
        second = second._replace(ids=None)
    parts = [first] if second is None else [first, second]
    if len({(part.is_text, part.labels is None) for part in parts}) > 1:
        raise InputError(
            f"{name}: one part has texts, or labels, where the other has none"
        )
    if first.is_text:
        check_sequences(how.length, how.holdout)
        if how.invert or how.shape:
            raise InputError(f"{name}: texts have no shape, and cannot be inverted")
    if first.labels is None:
        return _spoken(name, first, second, how)
    said = how.said
    if first.is_text:
        target = "class" if said.target == "auto" else said.target
        said = said._replace(tokens=True, target=target)
    rows = _as_rows(parts, how.length)
    kind = target_of(said, name, *(part.labels for part in rows))
    if len(rows) > 1:
        train, test = _alike(*rows)
    else:
        train, test = in_two(rows[0], first.marks, kind, how.holdout)
    if how.invert:
        train, test = inverted(train, True), inverted(test, True)
    return built(name, kind, said, train, test)


def _as_rows(parts: Sequence[Found], length: int) -> list[Rows]:
    """Rows of numbers: texts are characters, names of classes their numbers."""
    labels = [part.labels for part in parts if part.labels is not None]
    if {column.dtype.kind for column in labels} & {"O", "U"}:
        labels = _numbered(parts[0].where, labels)
    return [
        Rows(
            part.where,
            first_characters(list(part.features), length)
            if part.is_text
            else part.features,
            column,
            part.ids,
            part.more,
        )
        for part, column in zip(parts, labels, strict=True)
    ]


def _numbered(where: str, labels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Names of classes as 0, 1, ... in sorted order, the same in all parts.

    Numbers that are written as texts stay these numbers.
    """
    if any(column.dtype.kind not in "OU" or column.ndim != 1 for column in labels):
        raise InputError(f"{where}: labels must be numbers in all parts, or names")
    columns = [column.astype(str) for column in labels]
    names = np.unique(np.concatenate(columns))
    if all(name.isdecimal() and len(name) < _DIGITS for name in names):
        return [column.astype(np.int64) for column in columns]
    return [np.searchsorted(names, column) for column in columns]


def _alike(train: Rows, test: Rows) -> tuple[Rows, Rows]:
    """Whole numbers of one kind in both parts, where those of only one fit uint8."""
    kinds = {train.features.dtype, test.features.dtype}
    if kinds == {np.dtype(np.uint8), np.dtype(np.int64)}:
        train, test = (
            part._replace(features=part.features.astype(np.int64))
            for part in (train, test)
        )
    return train, test


def _spoken(name: str, first: Found, second: Found | None, how: How) -> Dataset:
    """Sequences of what each client says, the labels the characters that follow."""
    if second is None and (marks := first.marks) is not None:
        first, second = _taken(first, ~marks), _taken(first, marks)
    if first.ids is not None:
        check_ids(first.ids, first.where)
        if second is not None and second.ids is not None:
            number_clients(first.ids, second.ids, name)  # which fit each other
    said = _by_client(first)
    if second is None:
        parts = [last_held_out(spoken, how.holdout) for spoken in said.values()]
        train = [kept for kept, _ in parts]
        test = list(enumerate(held for _, held in parts))
    else:
        number = {client: i for i, client in enumerate(said)}
        train = list(said.values())
        test = [
            (number.get(client, -1), spoken)
            for client, spoken in _by_client(second).items()
        ]
    return next_characters(name, train, test, how.length, first.ids is not None)


def _taken(part: Found, which: np.ndarray) -> Found:
    """The texts that a mask [rows] marks.

    Raises:
      InputError: none.
    """
    if not which.any():
        raise InputError(f"{part.where}: no row to train on, or none to test on")
    ids = None if part.ids is None else part.ids[which]
    return part._replace(features=part.features[which], ids=ids, marks=None)


def _by_client(part: Found) -> dict[object, list[str]]:
    """What each client says, in sorted order of clients; all in one without ids."""
    if part.ids is None:
        return {None: list(part.features)}
    names, index = np.unique(part.ids, return_inverse=True)
    found: list[list[str]] = [[] for _ in names]
    for client, text in zip(index, part.features, strict=True):
        found[client].append(text)
    return dict(zip(names.tolist(), found, strict=True))
