"""PruneFL's reconfiguration: the mask that gains most in a second of a round.

The authors' algorithm takes candidates from a heap by falling ratio g_j^2 / t_j, while
the ratio of the next exceeds D / T of what is taken so far. Taking j moves D / T up
towards its ratio and never past it, so the loop ends with exactly the candidates whose
ratio exceeds the final D / T. That is the fixed point of

    lambda <- (D_0 + sum of g_j^2) / (T_0 + sum of t_j),  j with g_j^2 / t_j > lambda,

from lambda = D_0 / T_0 on: lambda rises, the sets shrink, and it ends when one stays as
it is (Dinkelbach's method for a fraction). Each step is one pass; nothing is sorted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.numerics import ranking
from fedjax_compress.prune.masks import ranks_among
from fedjax_compress.prune.shares import floored
from fedjax_compress.prune.time_model import TimeModel
from fedjax_compress.typing import Array, Params, Tree


class _Taken(NamedTuple):
    """Gain and time of what is kept, and how many elements that is."""

    gain: Array
    time: Array
    number: Array


def reconfigure(
    params: Params,
    mask: Tree,
    squared_gradients: Tree,
    times: TimeModel,
    removable_share: float | Array,
    max_density: float | Array | None = None,
) -> Tree:
    """A new mask of elements: protected ones, and others while they pay.

    In each layer, with the |w| of its kept elements in rising order s_0, s_1, ...,
    those with |w| >= s_floor(d kept) are protected, so that floor(d kept) are not, or
    fewer where some are equal. Candidates are all others, pruned ones too. They stay or
    come back as the text of this module says, with D_0 the squared gradients of all
    that is protected or has no mask, and T_0 = c + t_l for each protected one.

    Args:
      params: the server's stored values, also of what is pruned.
      mask: bool, shaped as its leaf, None for a leaf that is never pruned.
      squared_gradients: g^2 since the last reconfiguration, float32, like params; of
        pruned elements as well.
      times: c > 0 and t_l > 0, for the leaves that have a mask, in their order.
      removable_share: d, in [0, 1]; at 1 nothing is protected.
      max_density: largest share of the elements with a mask that stay; if it stops the
        algorithm, the candidates of the largest ratios stay, of equal ones the first.
        What is protected stays in any case. None for no limit.

    Raises:
      InputError: not as many times as leaves with a mask.

    Reference: Jiang et al. 2022 (PruneFL), further pruning, as in the authors' code.
    Deviations: sums are in float32; the authors' loop ends at one element more than
    floor(max_density n); and d = 1 is out of range there.
    """
    structure: Any = jax.tree.structure(mask, is_leaf=lambda m: m is None)
    masks = structure.flatten_up_to(mask)
    weights = structure.flatten_up_to(params)
    squares = structure.flatten_up_to(squared_gradients)
    squares = [g.astype(jnp.float32) for g in squares]
    layers = [i for i, m in enumerate(masks) if m is not None]
    if len(layers) != len(times.per_layer):
        raise InputError(
            f"{len(layers)} leaves have a mask, and there are times for "
            f"{len(times.per_layer)} layers"
        )
    free = [jnp.sum(g) for g, m in zip(squares, masks, strict=True) if m is None]
    gains = [squares[i] for i in layers]
    protected = [_protected(weights[i], masks[i], removable_share) for i in layers]
    start = _take(
        _Taken(sum(free, jnp.float32(0)), jnp.float32(times.constant), jnp.int32(0)),
        gains,
        times.times,
        protected,
    )
    # Protected elements are no candidates: their ratio exceeds nothing.
    ratios = [
        jnp.where(p, -1.0, g / t)
        for g, t, p in zip(gains, times.times, protected, strict=True)
    ]
    limit = _fixed_point(start, gains, times.times, ratios)
    taken = [r > limit for r in ratios]
    if max_density is not None:
        elements = sum(r.size for r in ratios)
        room = floored(max_density, elements) - start.number
        taken = _best(ratios, taken, jnp.maximum(room, 0))
    for i, p, t in zip(layers, protected, taken, strict=True):
        masks[i] = p | t
    return jax.tree.unflatten(structure, masks)


def _protected(weight: Array, kept: Array, share: float | Array) -> Array:
    """The kept elements with |w| at least the floor(share kept)-th smallest, from 0."""
    count = jnp.sum(kept, dtype=jnp.int32)
    left = count - floored(share, count)
    ranks = ranks_among(weight, kept)
    threshold = ranking.kth_largest(ranks, jnp.maximum(left, 1))
    return kept & (ranks.reshape(weight.shape) >= threshold) & (left > 0)


def _take(
    start: _Taken, gains: list[Array], times: tuple[float, ...], masks: list[Array]
) -> _Taken:
    """What is kept once the elements of the masks are added."""
    gain, time, kept = start
    for g, t, m in zip(gains, times, masks, strict=True):
        number = jnp.sum(m, dtype=jnp.int32)
        gain = gain + jnp.sum(jnp.where(m, g, 0))
        time = time + t * number.astype(jnp.float32)
        kept = kept + number
    return _Taken(gain, time, kept)


def _fixed_point(
    start: _Taken, gains: list[Array], times: tuple[float, ...], ratios: list[Array]
) -> Array:
    """lambda, float32 scalar."""

    def over(limit: Array) -> _Taken:
        return _take(start, gains, times, [r > limit for r in ratios])

    def going(state: tuple[Array, Array, Array]) -> Array:
        _, before, now = state
        return now < before

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        limit, _, before = state
        taken = over(limit)
        return taken.gain / taken.time, before, taken.number

    # No more than everything can be taken at first.
    most = jnp.int32(sum(r.size for r in ratios) + 2)
    state = (start.gain / start.time, most, most - 1)
    return jax.lax.while_loop(going, step, state)[0]


def _best(ratios: list[Array], taken: list[Array], room: Array) -> list[Array]:
    """Of what is taken, the elements of the largest ratios that there is room for."""
    joined = jnp.concatenate([r.ravel() for r in ratios])
    among = jnp.concatenate([t.ravel() for t in taken])
    count = jnp.minimum(room, jnp.sum(among, dtype=jnp.int32))
    kept = ranking.largest(ranks_among(joined, among), count)
    found, start = [], 0
    for r in ratios:
        found.append(kept[start : start + r.size].reshape(r.shape))
        start += r.size
    return found
