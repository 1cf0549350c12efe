"""Masks: which units stay, as trees of small bool arrays.

A mask has the structure of the parameters, with bool [units] for a leaf that is pruned
and None for one that is not. Only where it is applied does it grow to all elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.numerics import ranking
from fedjax_compress.prune.patterns import Pattern, unstructured
from fedjax_compress.prune.shares import portion, to_share
from fedjax_compress.typing import Array, Params, Tree


class Density(NamedTuple):
    """Shares of elements that stay.

    Attributes:
      leaves: of each masked leaf, float32 scalars in the structure of the mask.
      overall: of all masked leaves together, float32 scalar.
    """

    leaves: Tree
    overall: Array


def all_kept(weights: Tree, pattern: Pattern | None = None) -> Tree:
    """The mask that keeps everything.

    Args:
      weights: the prunable part of the parameters, as from ``part``.
      pattern: None for unstructured.
    """
    units = (pattern or unstructured()).units
    return jax.tree.map(lambda w: jnp.ones(units(w.shape), bool), weights)


def make_mask(scores: Tree, counts: Array, pattern: Pattern | None = None) -> Tree:
    """Keeps exactly so many units of each leaf, those of the highest scores.

    Of equal scores the first stay.

    Args:
      scores: a tree of float32 [units], not negative, as from ``unit_scores``.
      counts: int32 [leaves], each from 0 to the number of units.
      pattern: what the units are of. One that chooses by itself, as ``n_of_m`` does,
        does not look at the counts; None for one that does not.
    """
    leaves, structure = jax.tree.flatten(scores)
    if pattern is not None and pattern.choose is not None:
        return jax.tree.unflatten(structure, [pattern.choose(s) for s in leaves])
    masks = [_highest(s, counts[i]) for i, s in enumerate(leaves)]
    return jax.tree.unflatten(structure, masks)


def make_global_mask(params: Params, theta: float | Array) -> Tree:
    """One threshold of magnitude over ALL tensors, biases and scales of norms as well.

    thr = sort(|concat all|)[floor(n theta)]; an element stays unless |p| < thr.

    Args:
      params: a tree of n elements.
      theta: share to prune, in [0, 1). A traced one is a float32, in which 0.7 is a
        little less than 0.7, so that the floor may be lower by one.

    Returns:
      A tree of bool, shaped as the parameters.

    Raises:
      InputError: theta is a Python number out of range.

    Reference: Grativol et al. 2023, global magnitude pruning.
    """
    flat = [ranking.magnitudes(p) for p in jax.tree.leaves(params)]
    joined = jnp.concatenate([f.ravel() for f in flat])
    if isinstance(theta, jax.Array):
        place = jnp.minimum(
            portion(to_share(theta), joined.size).whole, joined.size - 1
        )
    elif 0 <= theta < 1:
        place = jnp.int32(int(joined.size * theta))
    else:
        raise InputError(f"theta must be in [0, 1), not {theta}")
    threshold = ranking.kth_largest(joined, joined.size - place)
    structure = jax.tree.structure(params)
    return jax.tree.unflatten(structure, [f >= threshold for f in flat])


def spread(mask: Tree, params: Params, pattern: Pattern | None = None) -> Tree:
    """The mask of elements, a tree of bool [shape] with None where it has None.

    Args:
      mask: of units.
      params: arrays or shapes; leaves where the mask has None are not looked at.
      pattern: what the units are of; None if they are the elements.
    """
    grow = (pattern or unstructured()).spread
    return _map(lambda m, p: None if m is None else grow(m, p.shape), mask, params)


def apply(mask: Tree, values: Tree, pattern: Pattern | None = None) -> Tree:
    """The values with 0 for what is pruned; leaves without a mask as they are.

    Args:
      mask: of units.
      values: a tree of arrays shaped as the parameters.
      pattern: what the units are of; None if they are the elements.
    """
    grow = (pattern or unstructured()).spread

    def masked(m: Array | None, x: Array) -> Array:
        return (
            x if m is None else jnp.where(grow(m, x.shape), x, jnp.zeros((), x.dtype))
        )

    return _map(masked, mask, values)


def kept_elements(mask: Tree, params: Params, pattern: Pattern | None = None) -> Array:
    """How many elements stay in each masked leaf, int32 [leaves] in leaf order.

    Args: as for ``spread``.
    """
    sizes = (pattern or unstructured()).sizes

    def count(m: Array | None, p: Array) -> Array | None:
        return None if m is None else jnp.sum(jnp.where(m, sizes(p.shape), 0))

    return jnp.stack(jax.tree.leaves(_map(count, mask, params)))


def density(mask: Tree, params: Params, pattern: Pattern | None = None) -> Density:
    """Shares of elements that stay, of the leaves that have a mask.

    Args: as for ``spread``.
    """
    kept = kept_elements(mask, params, pattern).astype(jnp.float32)
    whole = _map(lambda m, p: None if m is None else p.size, mask, params)
    sizes = jax.tree.leaves(whole)
    shares = list(kept / jnp.asarray(sizes, jnp.float32))
    leaves = jax.tree.unflatten(jax.tree.structure(mask), shares)
    return Density(leaves, jnp.sum(kept) / sum(sizes))


def any_kept(mask: Tree) -> Array:
    """Whether a mask keeps anything at all, a bool scalar."""
    return jnp.any(jnp.stack([jnp.any(m) for m in jax.tree.leaves(mask)]))


def regrow(mask: Tree, magnitudes: Tree, scores: Tree, number: int | Array) -> Tree:
    """Drops the smallest kept units and grows as many of the highest scores.

    In each leaf, the ``number`` kept units of smallest magnitude are dropped, or all
    if fewer are kept; then as many grow among all that are not kept now. A dropped
    unit may come back at once. Of equal ones the first stay and the first grow. The
    number of kept units does not change.

    Args:
      mask: of units.
      magnitudes: by what to drop, float32 [units], not negative.
      scores: by what to grow, float32 [units], not negative, such as |gradient|.
      number: at least 0; a scalar, or int32 [leaves] in leaf order.

    Reference: Evci et al. 2020 (RigL), section 3 and algorithm 1.
    """
    masks, structure = jax.tree.flatten(mask)
    numbers = jnp.broadcast_to(jnp.asarray(number, jnp.int32), (len(masks),))
    sizes, gains = jax.tree.leaves(magnitudes), jax.tree.leaves(scores)
    found = []
    for m, size, gain, moved in zip(masks, sizes, gains, numbers, strict=True):
        kept = jnp.sum(m, dtype=jnp.int32)
        moved = jnp.minimum(moved, kept)
        stays = _highest(size, kept - moved, among=m)
        found.append(stays | _highest(gain, moved, among=~stays))
    return jax.tree.unflatten(structure, found)


def union(one: Tree, other: Tree) -> Tree:
    """What at least one of two masks keeps."""
    return jax.tree.map(jnp.logical_or, one, other)


def ranks_among(values: Array, among: Array | None = None) -> Array:
    """Magnitudes to rank a part by, int32 [n]: those of others are below all of it."""
    flat = ranking.magnitudes(values).ravel()
    if among is None:
        return flat
    return jnp.where(among.ravel(), jnp.minimum(flat + 1, ranking.INFINITE), 0)


def _highest(scores: Array, count: Array, among: Array | None = None) -> Array:
    """Mask of exactly so many elements, the highest; count is at most their number."""
    kept = ranking.largest(ranks_among(scores, among), count)
    return kept.reshape(scores.shape)


def _map(function: Callable[..., Any], mask: Tree, values: Tree) -> Tree:
    """Leaf by leaf over a mask with its Nones, and a tree of the parameters."""
    return jax.tree.map(function, mask, values, is_leaf=lambda m: m is None)
