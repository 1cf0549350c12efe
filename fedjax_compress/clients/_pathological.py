"""A fixed number of labels for each client, and the same number of rows."""

from __future__ import annotations

import heapq

import numpy as np

from fedjax_compress import registry
from fedjax_compress.clients._label_count import check_classes
from fedjax_compress.clients.labels import labels_of, present, rows_by
from fedjax_compress.clients.partition import (
    Partition,
    equal_sizes,
    number_of_clients,
)
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.errors import InputError


@registry.register("partition")
def pathological(classes: int = 2, by: str = "") -> Partition:
    """A fixed number of labels a client, sizes as equal as these labels allow.

    There are clients * classes places. Labels get places one after another, at least
    one each, always the label with most rows for each of its places; none gets more
    than there are clients, or than it has rows. Clients draw their labels in turn, all
    different, in proportion to the places that labels have left, so that places come
    out even at the end. The rows of a label, shuffled, are split evenly over its
    places; then those of one label after another are dealt anew so that the sizes of
    the clients which have it are level, until nothing changes.

    Every row is dealt once, every label is somebody's, and no client has more than
    ``classes`` labels; it has fewer only where rare labels have fewer rows than there
    are clients. Of two clients that share a label, the larger has at most one row more,
    unless it has but a single row of that label. So 100 clients have 600 of MNIST's
    60,000 rows each, give or take one, of two digits.

    ``shards`` cuts the rows sorted by label wherever a shard ends, so that a client may
    have more labels than shards. ``label_count`` draws labels whatever their rows are,
    and sizes come out unequal.

    Args:
      classes: labels of each client, from 1 to all.
      by: column that takes the place of the labels, or ``client`` for the data's own
        clients; empty for the labels.

    Raises:
      InputError: rows without classes, too many ``classes``, or fewer places than there
        are labels.

    Reference: the setting that McMahan et al., "Communication-Efficient Learning of
    Deep Networks from Decentralized Data" (2017), section 3, call pathological: most
    clients have examples of two digits (from memory).

    Deviations: theirs are shards of the rows sorted by label, here ``shards``. How
    labels get places and how sizes are levelled is ours.
    """
    if classes < 1:
        raise InputError(f"classes must be at least 1, not {classes}")

    def assign(dataset: Dataset, clients: int, rng: np.random.Generator) -> np.ndarray:
        clients = number_of_clients(dataset, clients)
        labels, rows = present(labels_of(dataset, "pathological", by)[0])
        check_classes(classes, len(rows), dataset.name)
        if clients * classes < len(rows):
            raise InputError(
                f"{clients} clients with {classes} labels each cannot have all "
                f"{len(rows)} labels; ask for at least {-(-len(rows) // classes)} "
                "clients, or raise classes"
            )
        owners = _draw(_places(rows, clients, classes), clients, rng)
        shares = _levelled(owners, rows, clients)
        assignment = np.empty(len(labels), np.int32)
        members = rows_by(labels, rng)
        for mine, who, share in zip(members, owners, shares, strict=True):
            assignment[mine] = np.repeat(who, share)
        return assignment

    return assign


def _places(rows: np.ndarray, clients: int, classes: int) -> np.ndarray:
    """int [labels], how many clients have each label; the most rows a place come next.

    They add up to clients * classes, or to less where labels have too few rows.
    """
    most = np.minimum(rows, clients)
    places = np.ones(len(rows), np.int64)
    queue = [(-float(n), label) for label, n in enumerate(rows) if most[label] > 1]
    heapq.heapify(queue)
    for _ in range(min(clients * classes, int(most.sum())) - len(rows)):
        _, label = heapq.heappop(queue)
        places[label] += 1
        if places[label] < most[label]:
            heapq.heappush(queue, (-rows[label] / places[label], label))
    return places


def _draw(
    places: np.ndarray, clients: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """For each label its ``places`` different clients, int, ascending.

    A label with as many places left as there are clients left is everybody's from then
    on. The number of labels differs by one between clients at most, so that all places
    can be filled this way.
    """
    left = places.copy()
    has = np.zeros((clients, len(places)), bool)
    wanted = equal_sizes(int(places.sum()), clients)
    for client in range(clients):
        rest = clients - client
        with np.errstate(divide="ignore"):
            keys = rng.exponential(size=len(places)) / left  # the smallest come first
        keys[left == rest] = -1.0
        mine = np.argsort(keys, kind="stable")[: wanted[client]]
        has[client, mine] = True
        left[mine] -= 1
    has = has[rng.permutation(clients)]
    return [np.flatnonzero(column) for column in has.T]


def _levelled(
    owners: list[np.ndarray], rows: np.ndarray, clients: int
) -> list[np.ndarray]:
    """For each label the rows of each of its clients, which level their sizes.

    Each step lowers the sum of the squared sizes, a whole number, so it ends.
    """
    shares = [equal_sizes(n, len(who)) for who, n in zip(owners, rows, strict=True)]
    sizes = np.zeros(clients, np.int64)
    for who, share in zip(owners, shares, strict=True):
        sizes[who] += share
    changed = True
    while changed:
        changed = False
        for label, who in enumerate(owners):
            others = sizes[who] - shares[label]
            share = _fill(others, int(rows[label]))
            if ((others + share) ** 2).sum() < (sizes[who] ** 2).sum():
                shares[label], changed = share, True
                sizes[who] = others + share
    return shares


def _fill(others: np.ndarray, rows: int) -> np.ndarray:
    """Whole numbers of at least 1 that add up to ``rows`` and level ``others`` + them.

    As water does: the lowest are raised to one level.
    """
    order = np.argsort(others, kind="stable")
    heights = others[order] + 1
    number = np.arange(1, len(heights) + 1)
    spare = rows - len(heights)
    # What raises all below the i-th to its height.
    needed = heights * number - np.cumsum(heights)
    count = int(np.searchsorted(needed, spare, side="right"))
    level, more = divmod(spare + int(heights[:count].sum()), count)
    heights[:count] = level + (number[:count] <= more)
    share = np.empty_like(heights)
    share[order] = heights - others[order]
    return share
