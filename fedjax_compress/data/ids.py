"""Client ids of any kind as numbers without gaps."""

from __future__ import annotations

import numpy as np

from fedjax_compress.errors import InputError


def number_clients(
    train: np.ndarray, test: np.ndarray | None, where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Client ids of any kind (numbers with gaps, names) to 0, 1, ... in sorted order.

    Returns:
      int32 [train rows] and int32 [test rows], the latter -1 for nobody (an id that is
      negative, NaN or empty) and for a client without training rows, or None where no
      test row belongs to a training client.
    """
    if train.ndim != 1 or (test is not None and test.ndim != 1):
        raise InputError(f"{where}: client ids must be one column, one id a row")
    check_ids(train, where)
    if test is not None:
        _check_whole_ids(test, where)
    if test is not None and (train.dtype.kind in "SU") != (test.dtype.kind in "SU"):
        raise InputError(
            f"{where}: client ids are {train.dtype} in the train part, "
            f"{test.dtype} in the test part"
        )
    names, index = np.unique(train, return_inverse=True)
    if test is None or not len(names):
        return index.astype(np.int32), None
    spot = np.minimum(np.searchsorted(names, test), len(names) - 1)
    known = names[spot] == test
    if not known.any():
        return index.astype(np.int32), None
    return index.astype(np.int32), np.where(known, spot, -1).astype(np.int32)


def check_ids(ids: np.ndarray, where: str) -> None:
    """Raises InputError unless ids are names or whole numbers, and each row has one."""
    _check_whole_ids(ids, where)
    if not len(missing := np.flatnonzero(_is_missing(ids))):
        return
    row = int(missing[0])
    if ids.dtype.kind in "SU":
        raise InputError(f"{where}: client id in row {row} is empty")
    if ids.dtype.kind == "f" and np.isnan(ids[row]):
        raise InputError(f"{where}: client ids must not be NaN, as in row {row}")
    raise InputError(
        f"{where}: client ids must not be negative, but {np.sum(ids < 0)} are, "
        f"the first in row {row} ({ids[row]:g}); leave out rows of nobody"
    )


def _is_missing(ids: np.ndarray) -> np.ndarray:
    """Rows of nobody: a negative number, NaN or an empty name."""
    if ids.dtype.kind in "SU":
        return ids == np.zeros((), ids.dtype)
    return np.isnan(ids) | (ids < 0)


def _check_whole_ids(ids: np.ndarray, where: str) -> None:
    """Raises InputError unless ids are names or whole numbers, some maybe missing."""
    if ids.dtype.kind not in "biufSU":
        raise InputError(
            f"{where}: client ids must be whole numbers or names, not {ids.dtype}"
        )
    if ids.dtype.kind != "f":
        return
    wrong = ~_is_missing(ids) & (np.isinf(ids) | (ids != np.round(ids)))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{where}: client id {ids[row]:g} in row {row} is no whole number"
        )
