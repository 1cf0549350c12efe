"""A number of labels for each client, each label split evenly (NIID-Bench's #C = k)."""

from __future__ import annotations

import numpy as np

from fedjax_compress import registry
from fedjax_compress.clients.labels import labels_of, present, rows_by
from fedjax_compress.clients.partition import (
    Partition,
    equal_sizes,
    number_of_clients,
    require_rows,
)
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.errors import InputError


@registry.register("partition")
def label_count(classes: int = 2, by: str = "") -> Partition:
    """A number of labels a client, each label split evenly; sizes follow from that.

    Client i has the label numbered i modulo the number of labels, so that none is left
    over, and draws classes - 1 others, all equally likely. The rows of each label are
    shuffled and dealt in equal numbers (they differ by one at most) to the clients that
    have it. Labels count in ascending order, those with training rows.

    Where ``pathological`` hands out labels in proportion to their rows and levels the
    sizes of clients, here labels are drawn whatever their rows are, and what is level
    is each label: a client with two labels that few others have drawn has many rows.

    Every row is dealt once; there must be as many clients as labels. A client has fewer
    than ``classes`` labels only where more clients have drawn one than it has rows.

    Args:
      classes: labels of each client, from 1 to all.
      by: column that takes the place of the labels, or ``client`` for the data's own
        clients; empty for the labels.

    Raises:
      InputError: rows without classes, too many ``classes``, fewer clients than labels,
        a client whose labels have run out.

    Reference: Li, Diao, Chen, He, "Federated Learning on Non-IID Data Silos: An
    Experimental Study" (2022), arXiv:2102.02079, quantity-based label imbalance; how
    labels are drawn, from the authors' code (``noniid-#label``).

    Deviations: with fewer clients than labels their rows of some labels may belong to
    nobody; here that is refused.
    """
    if classes < 1:
        raise InputError(f"classes must be at least 1, not {classes}")

    def assign(dataset: Dataset, clients: int, rng: np.random.Generator) -> np.ndarray:
        clients = number_of_clients(dataset, clients)
        labels, rows = present(labels_of(dataset, "label_count", by)[0])
        count = len(rows)
        check_classes(classes, count, dataset.name)
        if clients < count:
            raise InputError(
                f"label_count gives client i the label i first, so that {clients} "
                f"clients leave some of {count} labels out; ask for at least {count} "
                "clients, or use pathological"
            )
        has = np.zeros((clients, count), bool)
        for client in range(clients):
            first = client % count
            others = rng.choice(count - 1, classes - 1, replace=False)
            has[client, first] = True
            has[client, others + (others >= first)] = True
        assignment = np.empty(len(labels), np.int32)
        for members, column in zip(rows_by(labels, rng), has.T, strict=True):
            owners = np.flatnonzero(column)
            sizes = equal_sizes(len(members), len(owners))
            assignment[members] = np.repeat(owners, sizes)
        return require_rows(
            assignment, clients, "lower clients, raise classes, or use pathological"
        )

    return assign


def check_classes(classes: int, count: int, where: str) -> None:
    """Raises InputError where a client cannot have so many labels."""
    if classes > count:
        raise InputError(
            f"classes is {classes}, but the training rows of {where} have {count} "
            f"labels; lower classes to {count} or less"
        )
