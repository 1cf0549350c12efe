"""Who has what: the labels of each client, and how far they are from everybody's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fedjax_compress.clients.labels import labels_of
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.values import pieces

_PARTS = 10
"""Parts into which numbers are cut."""


class Labels(NamedTuple):
    """The labels of each client.

    Attributes:
      what: what is counted, in the plural, as ``labels``.
      names: of each, in order.
      counts: int64 [clients, labels]; a row has one, or several, or none.
      ordered: whether they stand on a scale, as parts of numbers do.
    """

    what: str
    names: tuple[str, ...]
    counts: np.ndarray
    ordered: bool = False


def count_labels(
    dataset: Dataset, owner: np.ndarray, clients: int, by: str = ""
) -> Labels:
    """How often each client has each label.

    One class a row counts once; of several classes those that are 1; of classes at
    positions each position, up to ``lengths`` and without the padding of tokens; of a
    sequence its symbols. Numbers are cut into tenths: parts with equally many training
    rows, as far as rows of one value allow, of the first number where a row has more.

    Args:
      dataset: the rows.
      owner: int [train rows], the client of each row, -1 for nobody.
      clients: how many there are.
      by: a column of whole numbers that takes the place of the labels, or ``client``
        for the data's own clients; empty for the labels.

    Raises:
      InputError: no such column; see ``labels.labels_of``.
    """
    task, labels = dataset.task, dataset.train["labels"]
    if by or task.predicts == "class":
        found, count = labels_of(dataset, "partition", by)
        what, names = "labels", _names(dataset)
        if by in dataset.train:
            what = by
            names = tuple(str(int(value)) for value in np.unique(dataset.train[by]))
        elif by:
            what, names = "the data's own clients", _numbers(count)
        return Labels(what, names, _count(owner, found, clients, count))
    if task.predicts == "number":
        values = labels.reshape(len(labels), -1)[:, 0]
        cuts = np.unique(
            np.quantile(values, np.arange(1, _PARTS) / _PARTS, method="inverted_cdf")
        )
        cuts = cuts[cuts < values.max()]
        found = np.searchsorted(cuts, values, side="left")
        counts = _count(owner, found, clients, len(cuts) + 1)
        return Labels("parts of the target", _ranges(cuts), counts, ordered=True)
    counts = np.zeros((clients, task.classes), np.int64)
    for mine, found in _marks(dataset, owner):
        counts += _count(mine, found, clients, task.classes)
    what = "labels" if task.predicts == "several" else "symbols"
    return Labels(what, _names(dataset), counts)


def label_distances(counts: np.ndarray) -> np.ndarray:
    """float64 [clients], the total variation distance of each from all together.

    With the shares p_k of a client's labels, q those of all clients' together::

        1/2 sum_k |p_k - q_k|

    0 for the same mix, towards 1 where a client has only what is rare among all; NaN
    for a client without labels.

    Args:
      counts: int [clients, labels].
    """
    sums = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shares = counts / sums
        whole = counts.sum(axis=0) / sums.sum()
    return 0.5 * np.abs(shares - whole).sum(axis=1)


def _count(
    owner: np.ndarray, labels: np.ndarray, clients: int, count: int
) -> np.ndarray:
    """int64 [clients, count], of labels [n] and the owner of each."""
    there = owner >= 0
    place = owner[there].astype(np.int64) * count + labels[there]
    return np.bincount(place, minlength=clients * count).reshape(clients, count)


def _marks(
    dataset: Dataset, owner: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Owner and label of each mark, where a row has not just one; piece by piece."""
    kind, train = dataset.task.predicts, dataset.train
    for start, part in pieces(train["labels"]):
        rows = slice(start, start + len(part))
        there = np.ones(part.shape, bool)
        name = "label_lengths" if kind == "sequence" else "lengths"
        if kind == "several":
            there = part > 0
        elif name in train:
            place = np.arange(part.shape[1]) < train[name][rows, None]
            there = there & place.reshape(*place.shape, *(1,) * (part.ndim - 2))
        if kind == "positions" and dataset.task.tokens:
            there &= part != 0
        which = np.nonzero(there)
        labels = which[1] if kind == "several" else part[which]
        yield owner[rows][which[0]], labels


def _names(dataset: Dataset) -> tuple[str, ...]:
    """What the task calls its classes, or their numbers."""
    task = dataset.task
    if len(task.symbols) != task.classes:
        return _numbers(task.classes)
    return tuple(name if name.strip() else repr(name) for name in task.symbols)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _ranges(cuts: np.ndarray) -> tuple[str, ...]:
    """Parts of numbers: up to the first cut, up to the next, above the last."""
    if not len(cuts):
        return ("all",)
    each = [[f"{cut:.{digits}g}" for cut in cuts] for digits in range(3, 18)]
    found = next((n for n in each if len(set(n)) == len(n)), each[-1])
    return (*(f"up to {name}" for name in found), f"above {found[-1]}")
