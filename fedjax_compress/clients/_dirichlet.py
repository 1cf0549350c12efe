"""Label skew by Dirichlet draws, in the three published forms.

The same alpha means different things in them: ``flower`` with alpha equals ``prior``
with alpha * classes where the classes are balanced.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedjax_compress import registry
from fedjax_compress.clients.labels import labels_of
from fedjax_compress.clients.partition import (
    Partition,
    equal_sizes,
    number_of_clients,
    require_rows,
)
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.registry import PartitionSpec

_EPSILON = 1e-5


@registry.register("partition")
def dirichlet(
    alpha: float = 0.5,
    form: Literal["flower", "prior", "rejection"] = "flower",
    min_size: int = 10,
    attempts: int = 1000,
    sizes: PartitionSpec | None = None,
    by: str = "",
) -> Partition:
    """Label skew: Dirichlet(alpha) class shares, in one of three published forms.

    ``flower``, the default: client j draws shares p_j ~ Dir(alpha * ones(classes))
    and fills its quota row by row from p_j. All clients have equally many rows (they
    differ by one at most), so none is ever empty; every class still in stock gets
    1e-5 on top of its share; an exhausted class drops out and the shares are
    normalised again. The last clients get what is left: their mix is not Dirichlet.

    ``prior``: the same with p_j ~ Dir(alpha * prior), prior the class frequencies of
    the training rows, and nothing on top; should all classes that p_j favours be
    exhausted, the rest comes from the stock in proportion.

    ``rejection``: class by class over the clients. The rows of a class are shuffled
    and cut by shares ~ Dir(alpha * ones(clients)), clients that already have
    rows / clients or more get none; the whole draw is repeated until every client
    has ``min_size`` rows. Sizes are unequal. With few rows a client it hardly ever
    succeeds: 100 clients over the 1,437 digits need min_size=1.

    With ``sizes``, clients of ``flower`` and ``prior`` have as many rows as in another
    partition, as in ``dirichlet(0.1, sizes=quantity(sigma=1.0))``: labels and sizes are
    skewed, one whatever the other.

    Args:
      alpha: concentration, above 0; ``inf`` gives every client the overall mix
        (``flower``: equal shares of all classes).
      form: which of the three.
      min_size: ``rejection`` only: fewest rows of a client.
      attempts: ``rejection`` only: draws before giving up.
      sizes: SPEC of the partition that says how many rows each client has; none for
        equal numbers. Not for ``rejection``.
      by: column that takes the place of the labels, or ``client`` for the data's own
        clients; empty for the labels.

    Raises:
      InputError: rows without classes, ``sizes`` that leave rows to nobody, or draws
        that give some client too few.

    Reference: ``flower``: the helper of the Flower framework as used by Grativol et
    al. (2023). ``prior``: Hsu, Qi, Brown, "Measuring the Effects of Non-Identical
    Data Distribution for Federated Visual Classification" (2019); Reddi et al.,
    "Adaptive Federated Optimization" (2021); details from memory.
    ``rejection``: the partition of FedML.

    Deviations: rows of a class are taken in an order shuffled by ``rng``; ``inf`` in
    the forms ``prior`` and ``rejection`` is ours, and so are ``sizes``.
    """
    if not alpha > 0:
        raise InputError(f"alpha must be above 0, not {alpha}")
    if min_size < 1 or attempts < 1:
        raise InputError("min_size and attempts must be at least 1")
    if sizes is not None and form == "rejection":
        raise InputError(
            "form=rejection has sizes of its own; leave sizes out, or take form=flower "
            "or prior"
        )
    other = None if sizes is None else registry.build("partition", sizes)

    def assign(dataset: Dataset, clients: int, rng: np.random.Generator) -> np.ndarray:
        clients = number_of_clients(dataset, clients)
        labels, classes = labels_of(dataset, "dirichlet", by)
        if form == "rejection":
            return _by_class(labels, clients, alpha, rng, min_size, attempts)
        quota = equal_sizes(len(labels), clients)
        if other is not None:
            quota = _sizes(other(dataset, clients, rng), clients, str(sizes))
        counts = np.bincount(labels, minlength=classes)
        base = np.ones(len(counts)) if form == "flower" else counts / counts.sum()
        shares = _draw(alpha, base, clients, rng)
        extra = _EPSILON if form == "flower" else 0.0
        return _by_client(labels, quota, shares, counts, extra, rng)

    return assign


def _sizes(assignment: np.ndarray, clients: int, what: str) -> np.ndarray:
    """int [clients], how many rows each has, if every row is somebody's."""
    if (unused := int((assignment < 0).sum())) > 0:
        raise InputError(
            f"sizes={what} leaves {unused} of {len(assignment)} rows to nobody; take a "
            "partition that deals them all, such as quantity"
        )
    return np.bincount(assignment, minlength=clients)


def _draw(
    alpha: float, base: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """[count, len(base)] rows ~ Dir(alpha * base); entries with base 0 stay 0."""
    drawn = np.zeros((count, len(base)))
    present = base > 0
    if np.isinf(alpha):
        drawn[:, present] = base[present] / base.sum()
    else:
        drawn[:, present] = rng.dirichlet(alpha * base[present], count)
    return drawn


def _by_client(
    labels: np.ndarray,
    quota: np.ndarray,
    shares: np.ndarray,
    counts: np.ndarray,
    extra: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Clients in turn fill their quotas, each from its own class shares."""
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    ends = np.cumsum(counts)
    taken = ends - counts
    assignment = np.empty(len(labels), np.int32)
    for client, size in enumerate(quota):
        for category in _fill(shares[client], size, ends - taken, extra, rng):
            assignment[by_class[taken[category]]] = client
            taken[category] += 1
    return assignment


def _fill(
    share: np.ndarray,
    quota: int,
    stock: np.ndarray,
    extra: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """int [quota], classes drawn one by one from ``share`` while ``stock`` lasts."""
    stock = stock.copy()
    drawn: list[int] = []
    while len(drawn) < quota:
        chance = np.where(stock > 0, share + extra, 0.0)
        if chance.sum() == 0:
            chance = stock.astype(np.float64)
        share = chance / chance.sum()
        bounds = np.cumsum(share)
        last = int(np.flatnonzero(share)[-1])
        uniforms = rng.random(quota - len(drawn)) * bounds[-1]
        for category in np.searchsorted(bounds, uniforms, side="right"):
            category = min(int(category), last)
            drawn.append(category)
            stock[category] -= 1
            if stock[category] == 0:
                break
    return np.array(drawn, np.int64)


def _by_class(
    labels: np.ndarray,
    clients: int,
    alpha: float,
    rng: np.random.Generator,
    min_size: int,
    attempts: int,
) -> np.ndarray:
    """Each class is cut over the clients; redrawn until nobody is too small."""
    rows = len(labels)
    cure = f"lower min_size ({min_size}) or clients, raise alpha, or use form=flower"
    if min_size * clients > rows:
        raise InputError(
            f"{clients} clients of {min_size} rows need {min_size * clients}, "
            f"there are {rows}; {cure}"
        )
    smallest = empty = 0
    for _ in range(attempts):
        assignment = np.empty(rows, np.int32)
        sizes = np.zeros(clients, np.int64)
        for category in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == category))
            share = _draw(alpha, np.ones(clients), 1, rng)[0] * (sizes < rows / clients)
            total = share.sum()
            share = share / total if total > 0 else np.full(clients, 1 / clients)
            cuts = (np.cumsum(share)[:-1] * len(members)).astype(np.int64)
            for client, part in enumerate(np.split(members, cuts)):
                assignment[part] = client
                sizes[client] += len(part)
        if sizes.min() >= min_size:
            return require_rows(assignment, clients, cure)
        smallest = max(smallest, int(sizes.min()))
        empty = int((sizes == 0).sum())
    raise InputError(
        f"none of {attempts} draws gave every client {min_size} rows (best {smallest}; "
        f"{empty} of {clients} clients empty in the last); {cure}"
    )
