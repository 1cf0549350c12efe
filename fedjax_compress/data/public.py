"""Rows that server and clients share and that belong to no client."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from fedjax_compress import registry
from fedjax_compress.checks.returned import describe
from fedjax_compress.data.dataset import Dataset, check, check_lengths
from fedjax_compress.data.scaling import scaled
from fedjax_compress.data.values import check_finite
from fedjax_compress.errors import InputError
from fedjax_compress.registry import DataSpec
from fedjax_compress.typing import Columns, rows_of

Public = Callable[[Dataset, np.random.Generator], tuple[Dataset, Columns]]
"""(dataset, rng) -> (what is left of it for clients, public columns [rows, ...]).

Public columns are those of the data set, of the same shapes and types, all of them or
all but ``labels``.
"""
Part = Literal["train", "test"]


@registry.register("public")
def none() -> Public:
    """No public rows."""
    return lambda dataset, rng: (dataset, {})


@registry.register("public")
def held_out(share: float = 0.1, labels: bool = False) -> Public:
    """A share of the training rows, taken from clients before rows are dealt.

    ceil(share * rows) rows at random; of clients that the data know, each keeps a row.
    Memory-mapped columns are read into memory.

    Args:
      share: in (0, 1).
      labels: whether their labels are public, too.

    Raises:
      InputError: a share out of range, or so few rows that nobody would keep one.
    """
    if not 0 < share < 1:
        raise InputError(f"share must lie between 0 and 1, not {share:g}")

    def take(dataset: Dataset, rng: np.random.Generator) -> tuple[Dataset, Columns]:
        rows, owner = rows_of(dataset.train), dataset.train_clients
        order = rng.permutation(rows)
        if owner is not None:  # the first of each client, in this order, stays
            keeps = np.zeros(rows, bool)
            keeps[order[np.unique(owner[order], return_index=True)[1]]] = True
            order = order[~keeps[order]]
        wanted = int(np.ceil(share * rows - 1e-9))
        if wanted > len(order) or wanted == rows:
            raise InputError(
                f"{wanted} of {rows} rows would be public, and at most "
                f"{min(len(order), rows - 1)} can be; lower share"
            )
        gone = np.sort(order[:wanted])
        left = np.setdiff1d(np.arange(rows), gone, assume_unique=True)
        public = {name: np.asarray(x[gone]) for name, x in dataset.train.items()}
        found = dataclasses.replace(
            dataset,
            train={name: x[left] for name, x in dataset.train.items()},
            train_clients=None if owner is None else owner[left],
        )
        return found, public if labels else _without_labels(public)

    return take


@registry.register("public")
def source(of: DataSpec, rows: int = 0, part: Part = "train") -> Public:
    """Rows of another data set, as in source(npz(path='public.npz'), rows=2000).

    Their labels are kept if they are classes of the run's data; whether they mean the
    same is for you to know.

    Args:
      of: SPEC of the data set, whose examples have the run's shape and type.
      rows: how many, drawn at random; 0 for all.
      part: train or test.

    Raises:
      InputError: examples of another shape or type, or fewer rows.
    """
    if rows < 0:
        raise InputError(f"rows must not be negative, got {rows}")

    def take(dataset: Dataset, rng: np.random.Generator) -> tuple[Dataset, Columns]:
        other = scaled(check(registry.build("data", of)))
        columns: Columns = getattr(other, part)
        found = rows_of(columns)
        if rows > found:
            raise InputError(f"{other.name} has {found} rows, fewer than {rows}")
        _check_like(other.name, columns, dataset)
        which = np.arange(found)
        if rows:
            which = np.sort(rng.permutation(found)[:rows])
        taken = {
            n: np.asarray(columns[n][which]) for n in dataset.train if n in columns
        }
        mine, theirs = scaled(check(dataset)).task, other.task
        if mine.scale != theirs.scale:
            raise InputError(
                f"features of {other.name} are divided by {theirs.scale:g}, those of "
                f"{dataset.name} by {mine.scale:g}; give both one scale"
            )
        if mine.tokens and theirs.classes > mine.classes:
            raise InputError(
                f"{other.name} has {theirs.classes} symbols, {dataset.name} only "
                f"{mine.classes}"
            )
        fits = theirs.predicts == mine.predicts and theirs.classes <= mine.classes
        return dataset, taken if fits else _without_labels(taken)

    return take


@registry.register("public")
def noise(rows: int = 2000) -> Public:
    """Random features: whole numbers of the range of the data's, or normal ones.

    Whole numbers are uniform between the least and the largest of the training
    features; others have mean and standard deviation of these at each place.

    Args:
      rows: how many, at least 1.

    Raises:
      InputError: no rows, or data with further columns than features and labels.
    """
    if rows < 1:
        raise InputError(f"rows must be at least 1, not {rows}")

    def take(dataset: Dataset, rng: np.random.Generator) -> tuple[Dataset, Columns]:
        more = sorted(set(dataset.train) - {"features", "labels"})
        if more:
            raise InputError(f"noise has features only, and the data also have {more}")
        features = np.asarray(dataset.train["features"])
        shape = (rows, *features.shape[1:])
        if features.dtype.kind in "iu":
            low, high = int(features.min()), int(features.max())
            drawn = rng.integers(low, high, shape, features.dtype, endpoint=True)
        else:
            normal = rng.standard_normal(shape, np.float32)
            mean, std = features.mean(0, np.float64), features.std(0, dtype=np.float64)
            drawn = (mean + std * normal).astype(features.dtype)
        return dataset, {"features": drawn}

    return take


def check_public(found: Any, dataset: Dataset) -> tuple[Dataset, Columns]:
    """What a function of one's own gives, if it is what ``Public`` says.

    Args:
      found: what it has given.
      dataset: what it was given.

    Raises:
      InputError: anything else, or columns that are not like those of the data.
    """
    if (
        not isinstance(found, tuple)
        or len(found) != 2
        or not isinstance(found[1], dict)
    ):
        raise InputError(
            f"it must give (dataset, columns by name), not {describe(found)}"
        )
    columns = found[1]
    if not columns:
        return found[0], columns
    check_lengths("its public rows", columns)
    if not rows_of(columns):
        raise InputError("it gives no rows; it must give columns without any, or rows")
    _check_like("the public part", columns, dataset)
    for name, column in columns.items():
        if name not in dataset.train:
            raise InputError(f"it gives {name}, which {dataset.name} does not have")
        check_finite("its public rows", column, name)
    return found[0], columns


def _without_labels(columns: Columns) -> Columns:
    return {name: x for name, x in columns.items() if name != "labels"}


def _check_like(name: str, columns: Columns, dataset: Dataset) -> None:
    """Raises InputError unless columns are like those of the run's data."""
    for column, mine in dataset.train.items():
        if column == "labels":
            continue
        if column not in columns:
            raise InputError(f"{name} has no {column}, which {dataset.name} has")
        theirs = columns[column]
        if (theirs.shape[1:], theirs.dtype) != (mine.shape[1:], mine.dtype):
            raise InputError(
                f"examples of {name} have {column} of {theirs.dtype} "
                f"{list(theirs.shape[1:])}, those of {dataset.name} of {mine.dtype} "
                f"{list(mine.shape[1:])}; public rows must be alike"
            )
