"""Allocation: how much of each layer is pruned, and how many units of it stay.

A layer is a prunable leaf; arrays [layers] are in the order of the leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError
from fedjax_compress.numerics import ranking
from fedjax_compress.prune.shares import ONE, portion, rounded, to_share
from fedjax_compress.typing import Array, Tree


def uniform(sparsity: float | Array, layers: int) -> Array:
    """The same sparsity in all layers, float32 [layers]."""
    return jnp.full(layers, sparsity, jnp.float32)


def adaptive(
    sparsity: float | Array,
    importance: Array,
    sizes: Sequence[int],
    beta: float | Array | None = None,
    most: float | Array = 1.0,
) -> Array:
    """More sparsity in layers that matter less, float32 [layers].

    s_l = clip(S + beta (r_l - rbar) + c, 0, most), where
    r_l = (max I - I_l) / (max I - min I), 0 if all are equally important, rbar is the
    mean of r_l weighted by n_l, and c solves sum n_l s_l = S sum n_l. The left side is
    a piecewise linear function of c: it is evaluated at all its kinks, and c lies
    where it needs to on the piece between two.

    Args:
      sparsity: S, the sparsity of all layers together, in [0, 1].
      importance: I, float32 [layers], as from ``mean_magnitude``.
      sizes: n, elements of each layer (or units, if S is a share of these).
      beta: how unequal; 0 is uniform, None is S.
      most: the largest sparsity of a layer; S if that is larger.

    Raises:
      InputError: not as many sizes as layers.

    Reference: Lin et al. 2022 (Federated Pruning), adaptive sparsity.
    Deviation: the paper gives no formula; this one is ours.
    """
    if len(sizes) != importance.shape[0]:
        count = importance.shape[0]
        raise InputError(f"{count} layers need as many sizes, not {len(sizes)}")
    share = jnp.asarray(np.asarray(sizes) / sum(sizes), jnp.float32)
    sparsity = jnp.asarray(sparsity, jnp.float32)
    top = jnp.maximum(most, sparsity)
    strength = sparsity if beta is None else beta
    spread = jnp.max(importance) - jnp.min(importance)
    lack = (jnp.max(importance) - importance) / jnp.where(spread > 0, spread, 1)
    wanted = sparsity + strength * (lack - jnp.sum(share * lack))

    low, high = -wanted, top - wanted  # between them, layer l is not clipped
    kinks = jnp.concatenate([jnp.zeros(1), low, high])
    moved = wanted[None] + kinks[:, None]
    excess = jnp.sum(share[None] * (jnp.clip(moved, 0, top) - sparsity), axis=1)
    # From the last kink that is not too far, along the slope to its right.
    last = jnp.argmax(jnp.where(excess <= 0, kinks, -jnp.inf))
    free = (low <= kinks[last]) & (kinks[last] < high)
    slope = jnp.sum(jnp.where(free, share, 0))
    step = jnp.where(slope > 0, -excess[last] / jnp.where(slope > 0, slope, 1), 0)
    return jnp.clip(wanted + (kinks[last] + step), 0, top)


def mean_magnitude(weights: Tree) -> Array:
    """Importance of the layers: mean |w| of each leaf, float32 [layers]."""
    leaves = jax.tree.leaves(weights)
    return jnp.stack([jnp.mean(jnp.abs(w.astype(jnp.float32))) for w in leaves])


def kept_total(sparsity: float | Array, units: int) -> Array:
    """round((1 - S) units), halves up, exactly; int32 scalar.

    Args:
      sparsity: S in [0, 1]; a whole number of 2^-30 is taken as it is.
      units: below 2^31.
    """
    return rounded(ONE - to_share(sparsity), units)


def kept_counts(
    sparsities: Array, units: Sequence[int], total: Array | None = None
) -> Array:
    """How many units of each layer stay, int32 [layers].

    The shares (1 - s_l) u_l are rounded down; the units that are then missing go, one
    each, to the layers with the largest remainders. Should more be missing, or some
    be too many, the layers with room take or give them in equal parts.

    Args:
      sparsities: s, float32 [layers], in [0, 1].
      units: u, units of each layer.
      total: how many stay in all layers together, at most their sum, as from
        ``kept_total``; None for the sum of the shares, rounded. Where the sparsities
        are shares of elements, and the units of layers differ in size, None is right.

    Reference: the method of largest remainders (Hamilton's).
    """
    sizes = jnp.asarray(units, jnp.int32)
    whole, rest = portion(ONE - to_share(sparsities), sizes)
    if total is None:
        parts = rest.astype(jnp.float32) / ONE
        total = jnp.sum(whole) + jnp.floor(jnp.sum(parts) + 0.5).astype(jnp.int32)

    total = jnp.clip(total, 0, sum(units))

    def missing(counts: Array) -> Array:
        return total - jnp.sum(counts)

    def hand_out(counts: Array) -> Array:
        sign, lack = jnp.sign(missing(counts)), jnp.abs(missing(counts))
        room = jnp.where(sign > 0, sizes - counts, counts)
        number = jnp.maximum(jnp.sum(room > 0), 1)
        # Stable: of equal remainders the first layer is served first.
        order = jnp.argsort(jnp.where(room > 0, -sign * rest, ONE))
        rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
        wanted = lack // number + (rank < lack % number).astype(jnp.int32)
        return counts + sign * jnp.minimum(room, wanted)

    return jax.lax.while_loop(lambda c: missing(c) != 0, hand_out, whole)


def counts_of_threshold(scores: Tree, total: int | Array) -> Array:
    """One threshold over all layers: how many units of each stay, int32 [layers].

    The ``total`` highest scores stay; of equal ones the first.

    Args:
      scores: a tree of unit scores, as from ``unit_scores``.
      total: how many units stay, at most their number, as from ``kept_total``.
    """
    flat = [ranking.magnitudes(s).ravel() for s in jax.tree.leaves(scores)]
    kept = ranking.largest(jnp.concatenate(flat), total)
    ends = np.cumsum([f.size for f in flat])[:-1]
    return jnp.stack([jnp.sum(k, dtype=jnp.int32) for k in jnp.split(kept, ends)])
