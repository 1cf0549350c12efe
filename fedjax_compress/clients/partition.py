"""Who owns which training row: iid, label shards, quantity skew, natural clients,
blocks of these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedjax_compress import registry
from fedjax_compress.clients.labels import labels_of
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.typing import rows_of

Partition = Callable[[Dataset, int, np.random.Generator], np.ndarray]
"""(dataset, clients, rng) -> int32 [train rows]: the client of each row, -1 unused.

``clients`` = 0 means 100, or for ``natural`` and ``blocks`` as many as the data have
of their own. The result depends on the arguments alone. Every client owns at least one
row.
"""

DEFAULT_CLIENTS = 100


def number_of_clients(dataset: Dataset, clients: int) -> int:
    """``clients``, or 100 for 0.

    Raises:
      InputError: negative, or more clients than training rows.
    """
    rows = rows_of(dataset.train)
    if clients < 0:
        raise InputError(f"the number of clients must be positive, not {clients}")
    wanted = clients or DEFAULT_CLIENTS
    if wanted > rows:
        raise InputError(
            f"{wanted} clients cannot share the {rows} training rows of "
            f"{dataset.name}; ask for at most {rows} clients"
        )
    return wanted


def require_rows(assignment: np.ndarray, clients: int, cure: str) -> np.ndarray:
    """The assignment as int32, if no client is empty.

    Raises:
      InputError: says how many clients have no row, and ``cure``.
    """
    used = assignment[assignment >= 0]
    empty = clients - len(np.unique(used))
    if empty:
        raise InputError(f"{empty} of {clients} clients would be empty; {cure}")
    return assignment.astype(np.int32)


def describe(sizes: np.ndarray) -> str:
    """One line about a partition: clients, rows, and their spread."""
    if not len(sizes):
        return "no clients"
    low, middle, high = np.min(sizes), np.median(sizes), np.max(sizes)
    spread = f"{low}" if low == high else f"{low} to {high}, median {middle:g}"
    return f"{len(sizes):,} clients, {int(np.sum(sizes)):,} rows, {spread} each"


def deal(order: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Rows dealt in the given order: the first sizes[0] to client 0, and so on."""
    assignment = np.full(len(order), -1, np.int32)
    owners = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    assignment[order[: len(owners)]] = owners
    return assignment


def equal_sizes(rows: int, clients: int) -> np.ndarray:
    """Sizes that add up to ``rows`` and differ by one at most, larger ones first."""
    return rows // clients + (np.arange(clients) < rows % clients)


@registry.register("partition")
def iid() -> Partition:
    """Rows shuffled and dealt in equal numbers (they differ by one at most)."""

    def assign(dataset: Dataset, clients: int, rng: np.random.Generator) -> np.ndarray:
        clients = number_of_clients(dataset, clients)
        rows = rows_of(dataset.train)
        return deal(rng.permutation(rows), equal_sizes(rows, clients))

    return assign


@registry.register("partition")
def shards(per_client: int = 2, by: str = "") -> Partition:
    """Rows sorted by label, cut into equal shards, a few shards to each client.

    With 60,000 rows, 100 clients and 2 shards each: 200 shards of 300 rows. Rows of
    one label keep their order in the data. Every row is used; where the numbers do
    not divide, shards differ by one row. Where a shard ends among the rows of a label,
    a client may have more labels than shards; ``pathological`` keeps to a number.

    Args:
      per_client: shards of each client, at least 1.
      by: column that takes the place of the labels, or ``client`` for the data's own
        clients; empty for the labels.

    Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks from
    Decentralized Data" (2017), section 3 (the numbers from memory).
    """
    if per_client < 1:
        raise InputError(f"per_client must be at least 1, not {per_client}")

    def assign(dataset: Dataset, clients: int, rng: np.random.Generator) -> np.ndarray:
        clients = number_of_clients(dataset, clients)
        labels, _ = labels_of(dataset, "shards", by)
        count = clients * per_client
        if count > len(labels):
            raise InputError(
                f"{clients} clients with {per_client} shards each need {count} rows, "
                f"{dataset.name} has {len(labels)}; lower clients or per_client"
            )
        by_label = np.argsort(labels, kind="stable")
        owner_of_shard = rng.permutation(count) // per_client
        assignment = np.empty(len(labels), np.int32)
        sizes = equal_sizes(len(labels), count)
        assignment[by_label] = np.repeat(owner_of_shard, sizes)
        return assignment

    return assign


@registry.register("partition")
def quantity(sigma: float = 1.0, alpha: float | None = None) -> Partition:
    """Quantity skew: rows shuffled, numbers of rows unequal, labels not skewed.

    Sizes are proportional to a lognormal draw exp(sigma z), or, where ``alpha`` is
    given, to a symmetric Dirichlet(alpha) draw over the clients. Every client has at
    least one row and every row is used: one row each is set aside, the others are
    dealt in proportion, rounded by largest remainder.

    Args:
      sigma: spread of the logarithm of the sizes, 0 (all equal) to 100.
      alpha: concentration, above 0; small values give few clients most rows.
    """
    if not 0 <= sigma <= 100:
        raise InputError(f"sigma must be 0 to 100, not {sigma}")
    if alpha is not None and not (alpha > 0 and np.isfinite(alpha)):
        raise InputError(f"alpha must be above 0, not {alpha}")

    def assign(dataset: Dataset, clients: int, rng: np.random.Generator) -> np.ndarray:
        clients = number_of_clients(dataset, clients)
        rows = rows_of(dataset.train)
        if alpha is None:
            weight = rng.lognormal(0.0, sigma, clients)
            weight = weight / weight.sum()
        else:
            weight = rng.dirichlet(np.full(clients, alpha))
        sizes = 1 + proportional(weight, rows - clients)
        return deal(rng.permutation(rows), sizes)

    return assign


def proportional(weight: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that add up to ``total``, nearest to ``weight * total``.

    ``weight`` adds up to 1; the largest remainders are rounded up.
    """
    wanted = weight * total
    sizes = np.floor(wanted).astype(np.int64)
    missing = total - int(sizes.sum())
    sizes[np.argsort(sizes - wanted, kind="stable")[:missing]] += 1
    return sizes


@registry.register("partition")
def natural() -> Partition:
    """The data's own clients (writers, speakers, roles).

    With a number of clients below what the data have, that many are drawn at random
    and the rows of the others stay unused; ids follow the order in the data.
    """

    def assign(dataset: Dataset, clients: int, rng: np.random.Generator) -> np.ndarray:
        owners, own = _own_clients(dataset, clients)
        chosen = clients or own
        number = np.full(own, -1, np.int32)
        ids = np.sort(rng.choice(own, chosen, replace=False))
        number[ids] = np.arange(chosen, dtype=np.int32)
        assignment = number[owners]
        return require_rows(assignment, chosen, "their rows are missing in the data")

    return assign


@registry.register("partition")
def blocks() -> Partition:
    """The data's own clients, merged: consecutive ones become one client.

    Of N own clients, client k of K is made of those from k floor(N / K) on, as many;
    the last one takes the rest, too. 193 writers as 10 clients: 19 each, the last 22.

    Reference: the authors' code of Jiang et al. 2022 (PruneFL), FEMNIST.
    """

    def assign(dataset: Dataset, clients: int, rng: np.random.Generator) -> np.ndarray:
        owners, own = _own_clients(dataset, clients)
        chosen = clients or own
        assignment = np.minimum(owners // (own // chosen), chosen - 1)
        return require_rows(assignment, chosen, "their rows are missing in the data")

    return assign


def _own_clients(dataset: Dataset, clients: int) -> tuple[np.ndarray, int]:
    """The data's own client of each training row, and how many there are.

    Raises:
      InputError: there are none, or fewer than ``clients``.
    """
    own = dataset.own_clients
    if dataset.train_clients is None or own == 0:
        raise InputError(
            f"{dataset.name} has no clients of its own; "
            "use iid, dirichlet, shards or quantity"
        )
    if not 0 <= clients <= own:
        raise InputError(
            f"{dataset.name} has {own} clients of its own, not {clients}; "
            f"ask for 0 (all) to {own}"
        )
    return dataset.train_clients, own
