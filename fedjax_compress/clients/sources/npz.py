"""A user's own arrays in an ``.npz`` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedjax_compress import registry
from fedjax_compress.clients.data import Dataset, check
from fedjax_compress.clients.sources.columns import (
    as_features,
    as_labels,
    check_columns,
    has_array,
    load_npz,
    number_clients,
    number_of_classes,
)
from fedjax_compress.clients.sources.split import hold_out
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
      test_column: name of an array that is true for test rows.
      holdout: share held out where neither is given; between 0 and 1.
      classes: number of classes; 0 takes one more than the largest label.
      tokens: whether features are integer tokens (text), 0 being the padding.
      invert: 255 - x for uint8 pixels, as for LEAF's black ink on white paper.

    Raises:
      InputError: missing file or array, or rows that cannot be used; see ``check``.
    """
    if test and test_column:
        raise InputError("give test or test_column, not both")
    name = _name(path)
    columns = [features, labels, *([client] if client else [])]
    marker = [test_column] if test_column else []
    x, y, *rest = load_npz(path, columns + marker)
    check_columns(name, x, y, rest)
    x, y = as_features(x, name, tokens), as_labels(y, name)
    ids = rest[0] if client else None
    if test:
        if client and not has_array(test, client):
            columns = [features, labels]
        test_x, test_y, *test_rest = load_npz(test, columns)
        where = _name(test)
        check_columns(where, test_x, test_y, test_rest)
        test_x, test_y = as_features(test_x, where, tokens), as_labels(test_y, where)
        test_ids = test_rest[0] if test_rest else None
    else:
        if test_column:
            held = rest[-1].astype(bool)
        else:
            held = hold_out(_groups(y) if ids is None else ids, holdout)
            if not held.any():
                raise InputError(
                    f"{name}: no row can be held out for testing: a class, or a client "
                    "where there are ids, keeps its last row; name a file or a column "
                    "of test rows with test or test_column"
                )
        test_x, test_y = x[held], y[held]
        test_ids = None if ids is None else ids[held]
        x, y, ids = x[~held], y[~held], None if ids is None else ids[~held]
    if invert:
        x, test_x = _inverted(x, name), _inverted(test_x, name)
    if ids is not None:
        ids, test_ids = number_clients(ids, test_ids, name)
    count = number_of_classes(classes, y, test_y)
    return check(
        Dataset(
            name, Task(x.shape[1:], count, tokens), x, y, ids, test_x, test_y, test_ids
        )
    )


def _name(path: str) -> str:
    """Folder and file without ending: ``mnist/train``."""
    return "/".join(Path(path).with_suffix("").parts[-2:])


def _inverted(features: np.ndarray, name: str) -> np.ndarray:
    """White for black.

    Raises:
      InputError: anything but uint8.
    """
    if features.dtype != np.uint8:
        raise InputError(
            f"{name}: only uint8 pixels can be inverted, not {features.dtype}"
        )
    return 255 - features


def _groups(labels: np.ndarray) -> np.ndarray:
    return labels if labels.ndim == 1 else np.zeros(len(labels), np.int32)
