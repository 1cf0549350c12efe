"""A user's own arrays of any size: a folder of ``.npy`` files, left on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedjax_compress import registry
from fedjax_compress.clients.data import Dataset, check
from fedjax_compress.clients.scaling import Scale, divisor
from fedjax_compress.clients.sources.columns import (
    as_features,
    as_labels,
    check_columns,
    find,
    map_npy,
    number_clients,
    number_of_classes,
)
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


@registry.register("data")
def npy(
    path: str, classes: int = 0, tokens: bool = False, scale: Scale = "auto"
) -> Dataset:
    """Your own arrays of any size: a folder of .npy files, read where they lie.

    The folder holds features.npy, labels.npy, test_features.npy and test_labels.npy,
    and, where the data have clients of their own, clients.npy (ids: numbers or names,
    in any order) and, if known, test_clients.npy. The files are memory-mapped: of the
    training features each round reads its cohort's rows only. Rows that stand client
    by client are read fastest. Labels (one a row) and ids are kept in memory. Images
    without an axis of channels get one. The files must not change during a run.

    Args:
      path: the folder.
      classes: number of classes; 0 takes one more than the largest label.
      tokens: whether features are integer tokens (text), 0 being the padding; labels
        are then of the same shape.
      scale: what divides the features before a network reads them: a number, none, or
        auto: 255 for pictures of whole numbers up to 255, which are pixels, else none.

    Raises:
      InputError: missing folder or file, features that are neither uint8 nor float32
        (tokens and their labels: int32), which could be used only as a copy, or rows
        that cannot be used; see ``check``.
    """
    folder = find(path, "folder")
    if not folder.is_dir():
        raise InputError(
            f"{path} is a file, but npy reads a folder of .npy files; for one file of "
            "arrays use npz"
        )
    name = folder.resolve().name or path
    x, y, ids = _part(folder, "", name, tokens)
    test_x, test_y, test_ids = _part(folder, "test_", f"{name}, test part", tokens)
    if ids is not None:
        ids, test_ids = number_clients(ids, test_ids, name)
    elif test_ids is not None:
        raise InputError(f"{path} has test_clients.npy but no clients.npy")
    count = number_of_classes(classes, y, test_y)
    divided = None if tokens else divisor(scale, x, test_x, name)
    task = Task(x.shape[1:], count, tokens, divided)
    train = {"features": x, "labels": y}
    test_rows = {"features": test_x, "labels": test_y}
    return check(Dataset(name, task, train, ids, test_rows, test_ids))


def _part(
    folder: Path, prefix: str, where: str, tokens: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Features, labels and client ids (None without a file) of one part."""
    x, y = (_column(folder, f"{prefix}{column}") for column in ("features", "labels"))
    has_ids = (folder / f"{prefix}clients.npy").exists()
    others = [_column(folder, f"{prefix}clients")] if has_ids else []
    check_columns(where, x, y, others)
    _check_type(where, "tokens" if tokens else "features", x, tokens)
    if tokens:
        _check_type(where, "labels of tokens", y, tokens)
    else:
        y = as_labels(np.asarray(y), where)
    ids = np.asarray(others[0]) if others else None
    return as_features(x, where, tokens), y, ids


def _column(folder: Path, column: str) -> np.ndarray:
    file = folder / f"{column}.npy"
    if not file.exists():
        raise InputError(
            f"{folder} has no {file.name}; needed are features.npy, labels.npy, "
            "test_features.npy and test_labels.npy"
        )
    return map_npy(file)


def _check_type(where: str, what: str, column: np.ndarray, tokens: bool) -> None:
    """Raises InputError where a column would have to be copied to be used."""
    right = ("int32",) if tokens else ("uint8", "float32")
    if column.dtype not in [np.dtype(x) for x in right]:
        raise InputError(
            f"{where}: {what} are {column.dtype}, but on the disk they must be "
            f"{' or '.join(right)}; convert them with astype"
        )
