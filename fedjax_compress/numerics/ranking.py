"""The k largest magnitudes, exactly, by a bounded search instead of a sort.

Magnitudes of float32 are ordered as their bit patterns are, integers of 31 bits. So the
k-th largest is found by halving an interval of integers, with one count of the elements
above its middle each time: at most 31 passes over the array. In large arrays a sample
says first about where to look, and once few elements are left in the interval, only
these are counted. Every step is checked by exact counts; an unlucky sample costs time.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.numerics.bitset import marked, pack_mask, select
from fedjax_compress.typing import Array

INFINITE = 0x7F800000
"""The pattern of infinity, and what NaN counts as."""
SAMPLE = 16384
"""Elements of the sample that says where to look in larger arrays."""
ROOM = 8192
"""So many elements left in the interval are looked at alone."""
FEW = 512
"""Up to so many elements, a partial sort is faster."""


class Cut(NamedTuple):
    """All patterns above low, and those equal to it up to position end."""

    low: Array
    end: Array


class _Interval(NamedTuple):
    """Where the answer lies: low <= answer < high, and how many reach each end.

    Invariant: at_low >= k > at_high, with at_x the number of elements >= x.
    """

    low: Array
    high: Array
    at_low: Array
    at_high: Array


def magnitudes(array: Array) -> Array:
    """The bit patterns of |x| as float32, int32, ordered as |x| is; NaN as infinity."""
    words = jax.lax.bitcast_convert_type(array.astype(jnp.float32), jnp.int32)
    return jnp.minimum(words & 0x7FFFFFFF, INFINITE)


def kth_largest(magnitude: Array, k: int | Array) -> Array:
    """The k-th largest of patterns [n], equal ones counted each; 1 <= k <= n."""
    low = _search(magnitude, jnp.asarray(k, jnp.int32)).low
    return jnp.min(jnp.where(magnitude >= low, magnitude, INFINITE))


def largest(magnitude: Array, k: int | Array) -> Array:
    """Mask of exactly k elements, the largest, the first of equals; 0 <= k <= n.

    Args:
      magnitude: int32 [n], from ``magnitudes``.
      k: a Python int or an int32 scalar that depends on the data.
    """
    return above(magnitude, cut(magnitude, k)) & (jnp.asarray(k) > 0)


def cut(magnitude: Array, k: int | Array) -> Cut:
    """Where the k largest end; 1 <= k <= n."""
    k = jnp.maximum(jnp.asarray(k, jnp.int32), 1)
    found = _search(magnitude, k)
    wanted = k - found.at_high

    def last(end):
        equal = pack_mask(magnitude == found.low)
        return select(equal, wanted[None] - 1)[0]

    # A loop of at most one round: under vmap a condition would always do its work.
    end = jnp.where(found.at_low == k, magnitude.size, -1)
    return Cut(found.low, jax.lax.while_loop(lambda end: end < 0, last, end))


def above(magnitude: Array, cut: Cut) -> Array:
    """Mask of the elements that a cut leaves."""
    first = jnp.arange(magnitude.size, dtype=jnp.int32) <= cut.end
    return (magnitude > cut.low) | ((magnitude == cut.low) & first)


def positions_of_largest(magnitude: Array, k: int) -> Array:
    """Positions of the k largest, int32 [k], increasing; of equals the first."""
    if k <= FEW:
        ordered = jax.lax.bitcast_convert_type(magnitude, jnp.float32)
        return jnp.sort(jax.lax.top_k(ordered, k)[1])
    rank = jnp.arange(k, dtype=jnp.int32)
    return select(pack_mask(largest(magnitude, k)), rank)


def _search(magnitude: Array, k: Array) -> _Interval:
    """An interval whose low end exactly k elements reach, or that is one number."""
    zero = jnp.zeros((), jnp.int32)
    interval = _everything(magnitude)
    if magnitude.size <= 2 * SAMPLE:
        return _narrow(magnitude, k, interval, 0, zero)
    for guess in _guesses(magnitude, k):
        interval = _split(interval, k, guess, _reach(magnitude, guess))
    interval = _narrow(magnitude, k, interval, ROOM, zero)
    return _narrow(_inside(magnitude, interval), k, interval, 0, interval.at_high)


def _everything(magnitude: Array) -> _Interval:
    zero = jnp.zeros((), jnp.int32)
    return _Interval(zero, zero + INFINITE + 1, zero + magnitude.size, zero)


def _reach(magnitude: Array, threshold: Array) -> Array:
    return marked(pack_mask(magnitude >= threshold))


def _split(interval: _Interval, k: Array, middle: Array, reach: Array) -> _Interval:
    """The part of the interval that holds the answer; itself if middle is outside."""
    low, high, at_low, at_high = interval
    above = (reach >= k) & (middle > low)
    below = (reach < k) & (middle < high)
    return _Interval(
        jnp.where(above, middle, low),
        jnp.where(below, middle, high),
        jnp.where(above, reach, at_low),
        jnp.where(below, reach, at_high),
    )


def _narrow(
    values: Array, k: Array, interval: _Interval, room: int, beyond: Array
) -> _Interval:
    """Halves the interval until the answer is known or at most ``room`` are left in it.

    Args:
      values: patterns, at least those in the interval.
      k: rank of the answer among all elements.
      interval: around the answer.
      room: elements at which to stop.
      beyond: how many elements above the interval are not among the values.
    """

    def going(now):
        left = now.at_low - now.at_high
        return (now.high - now.low > 1) & (now.at_low != k) & (left > room)

    def halve(now):
        middle = now.low + (now.high - now.low) // 2
        return _split(now, k, middle, _reach(values, middle) + beyond)

    return jax.lax.while_loop(going, halve, interval)


def _guesses(magnitude: Array, k: Array) -> tuple[Array, Array]:
    """Two patterns that the answer probably lies between, from every s-th element.

    Four standard deviations of a rank in the sample to either side. s is odd, so that
    it does not keep step with the shape of a kernel.
    """
    sample = magnitude[:: (magnitude.size // SAMPLE) | 1]
    rank = k.astype(jnp.float32) * (sample.size / magnitude.size)
    spread = 4 * jnp.sqrt(rank) + 4

    def at(rank):
        rank = jnp.clip(rank.astype(jnp.int32), 1, sample.size)
        whole, none = _everything(sample), jnp.zeros((), jnp.int32)
        return _narrow(sample, rank, whole, 0, none).low

    return at(rank - spread), at(rank + spread)


def _inside(magnitude: Array, interval: _Interval) -> Array:
    """Patterns in the interval if they are few, [ROOM]; -1 where there is none."""
    inside = (magnitude >= interval.low) & (magnitude < interval.high)
    rank = jnp.arange(ROOM, dtype=jnp.int32)
    positions = select(pack_mask(inside), rank)
    count = interval.at_low - interval.at_high
    return jnp.where(rank < count, magnitude.at[positions].get(mode="clip"), -1)
