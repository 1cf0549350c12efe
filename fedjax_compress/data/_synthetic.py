"""Synthetic(alpha, beta): how far clients differ is two numbers."""

from __future__ import annotations

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.data.split import hold_out
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


@registry.register("data")
def synthetic(
    alpha: float = 1.0,
    beta: float = 1.0,
    clients: int = 30,
    rows: int = 0,
    dimension: int = 60,
    classes: int = 10,
    holdout: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Synthetic(alpha, beta) of FedProx, for any number of natural clients.

    Client k has a linear teacher of its own and features around a centre of its own::

        u_k ~ N(0, alpha),  B_k ~ N(0, beta)
        W_k[i, j] ~ N(u_k, 1),  b_k[j] ~ N(u_k, 1),  v_k[i] ~ N(B_k, 1)
        x ~ N(v_k, diag(i ** -1.2, i = 1, 2, ...)),  y = argmax(x W_k + b_k)
        n_k = 50 + floor(lognormal(4, 2))

    alpha and beta are standard deviations, as in the authors' program: alpha says how
    far the teachers differ, beta how far the features differ.

    Args:
      alpha: 0 or more.
      beta: 0 or more.
      clients: number of clients, all with rows in both parts.
      rows: rows of every client before the test part is taken; 0 draws n_k as above.
      dimension: number of features.
      classes: number of classes.
      holdout: share of each client's rows kept for testing, at least one row.
      seed: draws the data; it does not follow the seed of the run.

    Reference: Li et al., "Federated Optimization in Heterogeneous Networks" (2020),
    section 5.1 (the paper's text from memory), and the authors' generator for the
    laws, the sizes and the share of a tenth held out.
    """
    if min(alpha, beta) < 0 or not np.isfinite([alpha, beta]).all():
        raise InputError(f"alpha and beta must be 0 or more, not {alpha}, {beta}")
    if clients < 1 or dimension < 1 or classes < 2:
        raise InputError("synthetic needs clients >= 1, dimension >= 1, classes >= 2")
    if rows != 0 and rows < 2:
        raise InputError(f"rows must be 0 or at least 2, not {rows}")
    rng = np.random.default_rng([seed % 2**63, clients, dimension, classes])
    if rows:
        sizes = np.full(clients, rows)
    else:
        sizes = 50 + rng.lognormal(4, 2, clients).astype(np.int64)
    owner = np.repeat(np.arange(clients, dtype=np.int32), sizes)
    u, centre = rng.normal(0, alpha, clients), rng.normal(0, beta, clients)
    spread = np.arange(1, dimension + 1) ** -0.6
    features = np.empty((len(owner), dimension), np.float32)
    labels = np.empty(len(owner), np.int32)
    for k, end in enumerate(np.cumsum(sizes)):
        mine = slice(end - sizes[k], end)
        teacher = rng.normal(u[k], 1, (dimension, classes))
        bias = rng.normal(u[k], 1, classes)
        mean = rng.normal(centre[k], 1, dimension)
        x = mean + spread * rng.standard_normal((sizes[k], dimension))
        features[mine] = x
        labels[mine] = np.argmax(x @ teacher + bias, axis=1)
    test = hold_out(owner, holdout, least=1)
    return check(
        Dataset(
            f"synthetic({alpha:g}, {beta:g})",
            Task((dimension,), classes),
            {"features": features[~test], "labels": labels[~test]},
            owner[~test],
            {"features": features[test], "labels": labels[test]},
            owner[test],
        )
    )
