"""What a source delivers: training and test rows on the host, checked."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedjax_compress.errors import InputError
from fedjax_compress.returned import describe
from fedjax_compress.typing import Task


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Rows to learn from and rows to test on, as numpy arrays.

    Columns may be memory-mapped (``np.memmap``): they are read piece by piece, and
    training features of that kind stay on the disk.

    Invariants (``check`` enforces them): features and labels of a part have the same
    number of rows, at least one; floats are finite; labels lie in 0 .. classes-1.

    Attributes:
      name: what reports call it.
      task: shape of one example and number of classes.
      train_features: [train rows, *task.shape].
      train_labels: [train rows] or, for text, [train rows, length]; integer.
      train_clients: int32 [train rows], the data's own client of each row, numbered
        0, 1, ... without gaps; None where the data know no clients.
      test_features: [test rows, *task.shape].
      test_labels: as ``train_labels``.
      test_clients: int32 [test rows] in the numbering of ``train_clients``, -1 for a
        row of somebody who has no training row; None where unknown.
    """

    name: str
    task: Task
    train_features: np.ndarray
    train_labels: np.ndarray
    train_clients: np.ndarray | None
    test_features: np.ndarray
    test_labels: np.ndarray
    test_clients: np.ndarray | None = None

    @property
    def own_clients(self) -> int:
        """How many clients the data themselves know; 0 if none."""
        if self.train_clients is None or not self.train_clients.size:
            return 0
        return int(self.train_clients.max()) + 1


def check(dataset: Dataset) -> Dataset:
    """The dataset itself, if it can be used.

    Raises:
      InputError: it is none, columns that are no arrays of numbers, no rows, lengths
        or shapes that differ, NaN or infinity in the features, labels outside 0 ..
        classes-1, client ids that are not counted from 0 without gaps; names part, row
        and value.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"a source of data must give a clients.Dataset, not {describe(dataset)}"
        )
    if _known.get(id(dataset)) is dataset:
        return dataset
    check_columns(dataset)
    parts = (
        ("train", dataset.train_features, dataset.train_labels, dataset.train_clients),
        ("test", dataset.test_features, dataset.test_labels, dataset.test_clients),
    )
    for part, features, labels, clients in parts:
        where = f"{dataset.name}, {part} part"
        check_rows(where, features, labels, clients)
        if tuple(features.shape[1:]) != tuple(dataset.task.shape):
            raise InputError(
                f"{where}: one example has shape {features.shape[1:]}, "
                f"expected {tuple(dataset.task.shape)}"
            )
        check_finite(where, features)
        wanted = features.shape if dataset.task.tokens else features.shape[:1]
        if labels.shape != wanted:
            raise InputError(
                f"{where}: labels have shape {labels.shape}, expected {wanted}"
            )
        check_labels(where, labels, dataset.task.classes)
        if dataset.task.tokens:
            check_labels(where, features, dataset.task.classes, "token")
    check_clients(dataset)
    _known[id(dataset)] = dataset
    return dataset


_known: weakref.WeakValueDictionary[int, Dataset] = weakref.WeakValueDictionary()
"""Data that have passed ``check``; reading all of them again may take long."""


def check_columns(dataset: Dataset) -> None:
    """Raises InputError unless the columns are numpy arrays of numbers."""
    if not isinstance(dataset.task, Task):
        found = describe(dataset.task)
        raise InputError(f"{dataset.name}: task must be a typing.Task, not {found}")
    for field in dataclasses.fields(dataset)[2:]:
        column = getattr(dataset, field.name)
        if column is None and field.name.endswith("_clients"):
            continue
        kinds: tuple[Any, ...] = ()
        if field.name.endswith("_features"):
            kinds = np.number, np.bool_
        elif field.name.endswith("_clients"):
            kinds = (np.integer,)
        right = isinstance(column, np.ndarray) and column.ndim > 0
        if right and kinds:
            right = any(np.issubdtype(column.dtype, kind) for kind in kinds)
        if not right:
            whole = "" if np.number in kinds else "whole "
            raise InputError(
                f"{dataset.name}: {field.name} must be a numpy array of {whole}"
                f"numbers, a row for each example, not {describe(column)}"
            )


def check_clients(dataset: Dataset) -> None:
    """Raises InputError unless client ids are 0, 1, ... without gaps."""
    train, test = dataset.train_clients, dataset.test_clients
    if train is not None:
        seen = np.unique(train)
        if seen[0] != 0 or seen[-1] != len(seen) - 1:
            raise InputError(
                f"{dataset.name}: the {len(seen)} client ids of the train part must "
                f"be 0..{len(seen) - 1}, not {seen[0]}..{seen[-1]}"
            )
    if test is not None and not -1 <= test.min() <= test.max() < dataset.own_clients:
        raise InputError(
            f"{dataset.name}: client ids of the test part must lie in "
            f"-1..{dataset.own_clients - 1}, not {test.min()}..{test.max()}"
        )


def check_rows(
    where: str, features: np.ndarray, labels: np.ndarray, clients: np.ndarray | None
) -> None:
    """Raises InputError unless the columns have the same number of rows, not 0."""
    if len(features) == 0:
        raise InputError(f"{where}: no rows")
    if len(labels) != len(features):
        raise InputError(
            f"{where}: {len(features)} rows of features but {len(labels)} labels"
        )
    if clients is not None and len(clients) != len(features):
        raise InputError(
            f"{where}: {len(features)} rows of features but {len(clients)} client ids"
        )


def pieces(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The array in stretches of about four million elements, not copied.

    What is computed from them never needs memory for a whole memory-mapped column.

    Yields:
      number of the first row, rows [some, ...].
    """
    step = max(1, 2**22 // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def expect(array: np.ndarray, scattered: bool) -> None:
    """Tells the system how rows of a memory-mapped array will be read, else nothing.

    Where rows of a few kilobytes are read here and there, reading ahead costs far more
    than the rows: 2,000 rows of 4 kB of a file of 4 GB took 8.8 s, and 0.02 s without.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        with contextlib.suppress(OSError):  # a hint only
            base.madvise(mmap.MADV_RANDOM if scattered else mmap.MADV_NORMAL)


def check_finite(where: str, features: np.ndarray) -> None:
    """Raises InputError that names the first row with a NaN, an infinity or a number
    that is too large for float32."""
    if not np.issubdtype(features.dtype, np.inexact):
        return
    bad = 0
    first: tuple[int, Any] | None = None
    for start, part in pieces(features):
        rows = part.reshape(len(part), -1)
        wrong = ~np.isfinite(rows)
        if features.dtype.itemsize > 4:
            wrong |= np.abs(rows) > np.finfo(np.float32).max
        hit = wrong.any(axis=1)
        bad += int(hit.sum())
        if first is None and hit.any():
            row = int(hit.argmax())
            first = start + row, rows[row, int(wrong[row].argmax())]
    if first is not None:
        row, value = first
        why = "too large for float32" if np.isfinite(value) else "not finite"
        raise InputError(
            f"{where}: {bad} rows have features that are {why}, "
            f"first row {row} ({value}); mend or leave out these rows"
        )


def check_labels(
    where: str, labels: np.ndarray, classes: int, what: str = "label"
) -> None:
    """Raises InputError that names the first label outside 0 .. classes-1."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{where}: {what}s must be integers, not {labels.dtype}")
    bad = 0
    first: tuple[int, object] | None = None
    for start, part in pieces(labels):
        if int(part.min()) >= 0 and int(part.max()) < classes:
            continue
        wrong = (part < 0) | (part >= classes)
        bad += int(wrong.sum())
        if first is None:
            spot = np.unravel_index(int(wrong.argmax()), part.shape)
            first = start + int(spot[0]), part[spot]
    if first is not None:
        raise InputError(
            f"{where}: {what} {first[1]} in row {first[0]} lies outside "
            f"0..{classes - 1} ({bad} such {what}s)"
        )
