"""What a source delivers: training and test rows on the host, checked."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import numpy as np

from fedjax_compress.checks.returned import describe
from fedjax_compress.data.values import (
    check_counting,
    check_finite,
    check_labels,
    check_targets,
)
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Columns, Task


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Rows to learn from and rows to test on, as numpy arrays by name.

    Columns may be memory-mapped (``np.memmap``): they are read piece by piece, and
    training features of that kind stay on the disk.

    Invariants (``check`` enforces them): all columns of a part have the same number of
    rows, at least one, and both parts the same columns, ``features`` and ``labels``
    among them; floats are finite; labels are what the task says.

    Attributes:
      name: what reports call it.
      task: shape of one example and what is predicted.
      train: columns [train rows, ...]. ``features`` [rows, *task.shape]; ``labels`` as
        ``task.predicts``: whole numbers in 0 .. classes-1, [rows] or [rows, positions
        ...]; 0 or 1, [rows, classes]; or numbers, [rows] or [rows, classes].
        ``lengths`` [rows], how many positions are real; ``weights`` [rows], what each
        row counts for; and whatever a model of one's own reads.
      train_clients: int32 [train rows], the data's own client of each row, numbered
        0, 1, ... without gaps; None where the data know no clients.
      test: columns [test rows, ...].
      test_clients: int32 [test rows] in the numbering of ``train_clients``, -1 for a
        row of somebody who has no training row; None where unknown.
    """

    name: str
    task: Task
    train: Columns
    train_clients: np.ndarray | None
    test: Columns
    test_clients: np.ndarray | None = None

    @property
    def own_clients(self) -> int:
        """How many clients the data themselves know; 0 if none."""
        if self.train_clients is None or not self.train_clients.size:
            return 0
        return int(self.train_clients.max()) + 1


def check(dataset: Dataset) -> Dataset:
    """The dataset, if it can be used; its task tells of all columns.

    Raises:
      InputError: it is none, columns that are no arrays of numbers, no rows, lengths
        or shapes that differ, NaN or infinity in a column, labels that are not what
        the task says, client ids that are not counted from 0 without gaps; names part,
        row and value.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"a source of data must give a data.Dataset, not {describe(dataset)}"
        )
    if _known.get(id(dataset)) is dataset:
        return dataset
    check_columns(dataset)
    parts = (
        ("train", dataset.train, dataset.train_clients),
        ("test", dataset.test, dataset.test_clients),
    )
    for part, columns, clients in parts:
        where = f"{dataset.name}, {part} part"
        check_rows(where, columns, clients)
        shape = tuple(columns["features"].shape[1:])
        if shape != tuple(dataset.task.shape):
            raise InputError(
                f"{where}: one example has shape {shape}, "
                f"expected {tuple(dataset.task.shape)}"
            )
        for name, column in columns.items():
            check_finite(where, column, name)
        check_targets(where, columns["labels"], dataset.task)
        check_counting(where, columns, dataset.task)
        if dataset.task.tokens:
            symbols = dataset.task.predicts == "positions"
            most = dataset.task.classes if symbols else 2**31
            check_labels(where, columns["features"], most, "token")
    check_clients(dataset)
    more = tuple(
        (name, tuple(x.shape[1:]), str(x.dtype))
        for name, x in sorted(dataset.train.items())
        if name not in ("features", "labels")
    )
    if more != dataset.task.more:
        dataset = dataclasses.replace(dataset, task=dataset.task._replace(more=more))
    _known[id(dataset)] = dataset
    return dataset


_known: weakref.WeakValueDictionary[int, Dataset] = weakref.WeakValueDictionary()
"""Data that have passed ``check``; reading all of them again may take long."""


def check_columns(dataset: Dataset) -> None:
    """Raises InputError unless the columns are numpy arrays of numbers."""
    if not isinstance(dataset.task, Task):
        found = describe(dataset.task)
        raise InputError(f"{dataset.name}: task must be a typing.Task, not {found}")
    number = (np.number, np.bool_)
    for part in ("train", "test"):
        columns = getattr(dataset, part)
        if not isinstance(columns, dict) or not {"features", "labels"} <= set(columns):
            found = sorted(columns) if isinstance(columns, dict) else describe(columns)
            raise InputError(
                f"{dataset.name}: {part} must hold columns by name, features and "
                f"labels among them, not {found}"
            )
        for name, column in columns.items():
            if not _is_column(column, number):
                raise InputError(
                    f"{dataset.name}: {part}[{name!r}] must be a numpy array of "
                    f"numbers, a row for each example, not {describe(column)}"
                )
        clients = getattr(dataset, f"{part}_clients")
        if clients is not None and not _is_column(clients, (np.integer,)):
            raise InputError(
                f"{dataset.name}: {part}_clients must be a numpy array of whole "
                f"numbers, a row for each example, not {describe(clients)}"
            )
    if other := set(dataset.train) ^ set(dataset.test):
        raise InputError(
            f"{dataset.name}: both parts must have the same columns; "
            f"{', '.join(sorted(other))} is in one of them only"
        )
    for name in set(dataset.train) - {"features", "labels"}:
        shapes = [getattr(dataset, part)[name].shape[1:] for part in ("train", "test")]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{dataset.name}: a row of {name} has shape {shapes[0]} in the train "
                f"part, but {shapes[1]} in the test part"
            )


def _is_column(column: Any, kinds: tuple[Any, ...]) -> bool:
    right = isinstance(column, np.ndarray) and column.ndim > 0
    return right and any(np.issubdtype(column.dtype, kind) for kind in kinds)


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


def check_rows(where: str, columns: Columns, clients: np.ndarray | None) -> None:
    """Raises InputError unless the columns have the same number of rows, not 0."""
    rows = len(columns["features"])
    if rows == 0:
        raise InputError(f"{where}: no rows")
    check_lengths(where, columns)
    if clients is not None and len(clients) != rows:
        raise InputError(
            f"{where}: {rows} rows of features but {len(clients)} client ids"
        )


def check_lengths(where: str, columns: Columns) -> None:
    """Raises InputError unless all columns have the same number of rows."""
    first, *others = sorted(columns, key=lambda name: name != "features")
    rows = len(columns[first])
    for name in others:
        if len(columns[name]) != rows:
            raise InputError(
                f"{where}: {rows} rows of {first} but {len(columns[name])} {name}"
            )
