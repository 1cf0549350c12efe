"""A user's own arrays in an ``.npz`` file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedjax_compress import registry
from fedjax_compress.clients.data import Dataset, check
from fedjax_compress.clients.scaling import Scale, divisor
from fedjax_compress.clients.sources.columns import (
    as_features,
    as_labels,
    check_columns,
    check_features,
    check_ids,
    has_array,
    load_npz,
    number_clients,
    number_of_classes,
)
from fedjax_compress.clients.sources.split import hold_out, test_marks
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


@registry.register("data")
def npz(
    path: str,
    features: str = "images",
    labels: str = "labels",
    client: str = "",
    test: str = "",
    test_column: str = "",
    holdout: float = 0.1,
    classes: int = 0,
    tokens: bool = False,
    invert: bool = False,
    scale: Scale = "auto",
) -> Dataset:
    """Your own arrays in an .npz file, with or without a column of client ids.

    The test part is a second file (``test``) with the same arrays, or the rows marked
    in a boolean array (``test_column``), or else a held-out share: the same share of
    every client where ids are given, of every class otherwise, the same rows in every
    run. uint8 pixels stay uint8; images without an axis of channels get one.

    Args:
      path: the file with the training rows.
      features: name of the array of features, [rows, ...].
      labels: name of the array of labels, whole numbers 0, 1, ...; [rows], or
        [rows, length] for ``tokens``.
      client: name of the array of client ids (numbers or names, in any order); empty
        if there is none. Needed for the partition ``natural``.
      test: file with the test rows; it may lack the ids.
      test_column: name of an array that is true, or 1, for test rows and false, or 0,
        for the others.
      holdout: share held out where neither is given; between 0 and 1.
      classes: number of classes; 0 takes one more than the largest label.
      tokens: whether features are integer tokens (text), 0 being the padding.
      invert: 255 - x for uint8 pixels, as for LEAF's black ink on white paper.
      scale: what divides the features before a network reads them: a number, none, or
        auto: 255 for pictures of whole numbers up to 255, which are pixels, else none.

    Raises:
      InputError: missing file or array, or rows that cannot be used; see ``check``.
    """
    if test and test_column:
        raise InputError("give test or test_column, not both")
    names = _Names(features, labels, client, test_column)
    name = _name(path)
    if test:
        first = _read(path, names, tokens, needed=True).part
        second = _read(test, names, tokens, needed=False).part
    else:
        first, second = _held_out(
            _read(path, names, tokens, needed=True), name, holdout
        )
    if invert:
        first, second = _inverted(first, name), _inverted(second, _name(test or path))
    x = as_features(first.features, name, tokens)
    test_x = as_features(second.features, _name(test or path), tokens)
    divided = None if tokens else divisor(scale, first.features, second.features, name)
    ids, test_ids = first.ids, None
    if ids is not None:
        ids, test_ids = number_clients(ids, second.ids, name)
    y, test_y = first.labels, second.labels
    count = number_of_classes(classes, y, test_y)
    task = Task(x.shape[1:], count, tokens, divided)
    train = {"features": x, "labels": y}
    test_rows = {"features": test_x, "labels": test_y}
    return check(Dataset(name, task, train, ids, test_rows, test_ids))


class _Names(NamedTuple):
    """Names of the arrays; empty for one that there is not."""

    features: str
    labels: str
    client: str
    marks: str


class _Part(NamedTuple):
    """Features as they are stored, labels int32, ids as they are stored or None."""

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray | None


class _File(NamedTuple):
    """The rows of a file, and which of them are marked for testing, if that is said."""

    part: _Part
    marks: np.ndarray | None


def _read(path: str, names: _Names, tokens: bool, needed: bool) -> _File:
    """The rows of a file; ids may be missing unless they are ``needed``.

    Raises:
      InputError: missing file or array, columns that do not fit each other.
    """
    where = _name(path)
    client = names.client if needed or has_array(path, names.client) else ""
    others = [n for n in (client, names.marks) if n]
    x, y, *rest = load_npz(path, [names.features, names.labels, *others])
    check_columns(where, x, y, rest)
    check_features(x, where, tokens)
    marks = test_marks(rest[-1], where, names.marks) if names.marks else None
    part = _Part(x, as_labels(y, where), rest[0] if client else None)
    return _File(part, marks)


def _held_out(file: _File, name: str, holdout: float) -> tuple[_Part, _Part]:
    """The rows to learn from and those to test on: marked, or a share of each group."""
    (x, y, ids), held = file
    if held is None:
        groups = ids
        if ids is not None:
            check_ids(ids, name)
        if groups is None:
            groups = y if y.ndim == 1 else np.zeros(len(y), np.int32)
        held = hold_out(groups, holdout)
        if not held.any():
            raise InputError(
                f"{name}: no row can be held out for testing: a class, or a client "
                "where there are ids, keeps its last row; name a file or a column "
                "of test rows with test or test_column"
            )
    return tuple(  # type: ignore[return-value]
        _Part(x[rows], y[rows], None if ids is None else ids[rows])
        for rows in (~held, held)
    )


def _name(path: str) -> str:
    """Folder and file without ending: ``mnist/train``."""
    whole = Path(path)
    return "/".join((*whole.parts[:-1], whole.stem)[-2:])


def _inverted(part: _Part, name: str) -> _Part:
    """White for black.

    Raises:
      InputError: anything but uint8.
    """
    kind = part.features.dtype
    if kind != np.uint8:
        raise InputError(f"{name}: only uint8 pixels can be inverted, not {kind}")
    return part._replace(features=255 - part.features)
