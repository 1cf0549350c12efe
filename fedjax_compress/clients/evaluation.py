"""Which test rows measure which client."""

from __future__ import annotations

import numpy as np

from fedjax_compress.data.dataset import Dataset


def share_test_rows(
    dataset: Dataset, assignment: np.ndarray, clients: int, rng: np.random.Generator
) -> np.ndarray:
    """The client each test row belongs to, for evaluation by client.

    Where every one of the data's own clients went to one client as a whole (the
    natural partition) and the test rows name their clients, they follow them.
    Otherwise each test row of class c goes to client k with probability
    n[k, c] / n[c], its share of the training rows of that class, so that a client is
    tested on the mix of labels it trains on. (Where rows have
    no class: in proportion to the number of training rows.)

    Args:
      dataset: the rows.
      assignment: int32 [train rows], the result of a partition.
      clients: number of clients.
      rng: used in the second case only.

    Returns:
      int32 [test rows], -1 where nobody is measured by the row. A client may get none.
    """
    followed = _follow(dataset, assignment)
    if followed is not None:
        return followed
    labels, test = dataset.train["labels"], dataset.test["labels"]
    if dataset.task.predicts != "class":
        labels = np.zeros(len(labels), np.int32)
        test = np.zeros(len(test), np.int32)
    result = np.full(len(test), -1, np.int32)
    for category in np.unique(test):
        owners = assignment[(labels == category) & (assignment >= 0)]
        rows = np.flatnonzero(test == category)
        if len(owners):
            result[rows] = rng.choice(owners, len(rows))
    return result


def _follow(dataset: Dataset, assignment: np.ndarray) -> np.ndarray | None:
    """Test rows sent after their client, or None if clients were torn apart."""
    own, test = dataset.train_clients, dataset.test_clients
    if own is None or test is None:
        return None
    low = np.full(dataset.own_clients, np.iinfo(np.int32).max, np.int32)
    high = np.full(dataset.own_clients, -1, np.int32)
    np.minimum.at(low, own, assignment)
    np.maximum.at(high, own, assignment)
    if (low != high).any():
        return None
    return np.where(test >= 0, low[test], -1).astype(np.int32)
