"""The weighted mean of updates."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.typing import Aggregator, Array, Tree


class Mean(NamedTuple):
    """Accumulator of a weighted mean.

    Invariants: ``weight`` is a scalar, or a tree like ``total``; both are sums over
    the reports lifted so far, in float32.
    """

    total: Tree
    weight: Tree


@registry.register("aggregate")
def mean(weight: Literal["examples", "uniform"] = "examples") -> Aggregator:
    """Mean of the updates, weighted by number of examples or uniformly.

    sum_k n_k u_k / sum_k n_k, with n_k replaced by 1 where n_k > 0 if uniform. With
    a tree of masks as weight, each coordinate is averaged over those that hold it.

    Args:
      weight: ``examples`` (FedAvg) or ``uniform``.

    Reference: McMahan et al. 2017, algorithm 1.
    """

    def lift(update: Tree, size: Tree) -> Mean:
        def share(n: Array) -> Array:
            n = jnp.asarray(n, jnp.float32)
            return (n > 0).astype(jnp.float32) if weight == "uniform" else n

        weights = jax.tree.map(share, size)
        if jax.tree_util.all_leaves([weights]):
            return Mean(jax.tree.map(lambda u: _product(u, weights), update), weights)
        return Mean(jax.tree.map(_product, update, weights), weights)

    def finish(acc: Mean) -> Tree:
        if jax.tree_util.all_leaves([acc.weight]):
            return jax.tree.map(lambda t: _quotient(t, acc.weight), acc.total)
        return jax.tree.map(_quotient, acc.total, acc.weight)

    return Aggregator(lift, finish)


def _product(update: Array, weight: Array) -> Array:
    return update.astype(jnp.float32) * weight


def _quotient(total: Array, weight: Array) -> Array:
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), 0.0)
