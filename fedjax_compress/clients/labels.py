"""What partitions tell rows apart by: their labels, another column, their clients."""

from __future__ import annotations

import numpy as np

from fedjax_compress.data.columns import as_labels
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest

OWN = "client"
"""What the data's own clients are called where a partition goes by them."""


def labels_of(dataset: Dataset, what: str, by: str = "") -> tuple[np.ndarray, int]:
    """int [train rows], what each training row counts as, from 0 on; and of how many.

    Args:
      dataset: the rows.
      what: the name of the partition, for messages.
      by: empty for the labels. Else a column with one whole number a row, whose values
        count in ascending order; or ``client``, the data's own clients, where no column
        has that name.

    Raises:
      InputError: rows without a class of their own, no such column, or one that is no
        whole number a row.
    """
    if not by:
        return _classes(dataset, what)
    if by in dataset.train:
        column = dataset.train[by]
        if column.ndim != 1:
            raise InputError(
                f"{what} needs one number a row, but {by} of {dataset.name} has "
                f"{column.shape[1:]} of them"
            )
        column = as_labels(column, dataset.name, by)
    elif by == OWN and dataset.train_clients is not None:
        column = dataset.train_clients
    else:
        known = _columns(dataset)
        hint = (
            nearest(by, known)
            if known
            else f"{dataset.name} has no column of whole numbers beside its labels; "
            "name one among its inputs"
        )
        raise InputError(f"{what}: by cannot be {by!r}; {hint}")
    values, found = np.unique(column, return_inverse=True)
    return found, len(values)


def present(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels numbered without gaps, int [rows], and rows of each, int [labels]."""
    _, index, rows = np.unique(labels, return_inverse=True, return_counts=True)
    return index, rows


def rows_by(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The rows of each label, shuffled, of labels numbered without gaps."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.split(order, np.cumsum(np.bincount(labels))[:-1])


def _classes(dataset: Dataset, what: str) -> tuple[np.ndarray, int]:
    labels = dataset.train["labels"]
    if dataset.task.predicts == "class":
        return labels, dataset.task.classes
    known = [name for name in _columns(dataset) if name != "labels"]
    cure = (
        f"say what to go by instead, as in {what}(by={known[0]})"
        if known
        else "name a column of whole numbers among the inputs of the data and say "
        f"{what}(by=NAME)"
    )
    cure = f"{cure}, or use iid" + (" or natural" if OWN in known else "")
    if labels.ndim > 1:
        raise InputError(
            f"{what} needs one label a row, but {dataset.name} has {labels.shape[1:]} "
            f"of them; {cure}"
        )
    raise InputError(
        f"{what} needs classes, but the labels of {dataset.name} are numbers; {cure}"
    )


def _columns(dataset: Dataset) -> list[str]:
    """What ``by`` may name, further columns first."""
    found = [
        n for n, x in dataset.train.items() if x.ndim == 1 and x.dtype.kind in "iu"
    ]
    found = sorted(found, key=lambda name: name == "labels")
    own = [OWN] * (dataset.train_clients is not None and OWN not in found)
    return [n for n in found if n != "labels"] + own + ["labels"] * ("labels" in found)
