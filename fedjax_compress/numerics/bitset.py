"""Sets of positions as bits in words, inside jit: counted, ranked, gap by gap.

A cumulative sum over n elements is slow on a CPU, one over n / 32 words is not. So a
mask is packed into words first, in one pass over it, and all that needs the order of
the marked positions works on the words.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_compress.typing import Array

WORD = 32


def pack_mask(mask: Array) -> Array:
    """The mask [n] as uint32 [ceil(n / 32)]; element 0 is the lowest bit of word 0."""
    rows = jnp.pad(mask, (0, -mask.size % WORD)).reshape(-1, WORD)
    shifted = rows.astype(jnp.uint32) << jnp.arange(WORD, dtype=jnp.uint32)[None]
    return jnp.sum(shifted, axis=1, dtype=jnp.uint32)


def marked(words: Array) -> Array:
    """How many bits are set, as an int32 scalar."""
    return jnp.sum(jax.lax.population_count(words).astype(jnp.int32))


def select(words: Array, rank: Array) -> Array:
    """Positions of the set bits with the given ranks, as int32.

    Args:
      words: uint32 [m], from ``pack_mask``.
      rank: int32 [k]; 0 is the first set bit. Ranks beyond the last give no meaningful
        position.
    """
    counts = jax.lax.population_count(words).astype(jnp.int32)
    ends = jnp.cumsum(counts)
    at = jnp.searchsorted(ends, rank, side="right", method="scan").astype(jnp.int32)
    at = jnp.minimum(at, words.size - 1)
    word, left = words[at], rank - (ends[at] - counts[at])
    place = jnp.zeros_like(left)
    for half in (16, 8, 4, 2, 1):
        low = word & jnp.uint32((1 << half) - 1)
        below = jax.lax.population_count(low).astype(jnp.int32)
        upper = left >= below
        left = jnp.where(upper, left - below, left)
        word = jnp.where(upper, word >> half, low)
        place = jnp.where(upper, place + half, place)
    return at * WORD + place


def over_gaps(words: Array, cost: Callable[[Array], Array]) -> Array:
    """Sum of cost(zeros between a set bit and the one before), as int32 parts [m].

    The first set bit counts the zeros in front of it; zeros after the last count
    nothing.

    Args:
      words: uint32 [m], from ``pack_mask``.
      cost: int32 array -> int32 array, element by element.
    """
    start = jnp.arange(words.size, dtype=jnp.int32) * WORD
    highest = start + (WORD - 1 - jax.lax.clz(words).astype(jnp.int32))
    last = jax.lax.cummax(jnp.where(words > 0, highest, -1))
    before = jnp.concatenate([jnp.full(1, -1, jnp.int32), last[:-1]])

    def step(bit, carry):
        previous, total = carry
        here = start + bit
        is_set = (words >> bit.astype(jnp.uint32)) & 1 == 1
        total = total + jnp.where(is_set, cost(here - previous - 1), 0)
        return jnp.where(is_set, here, previous), total

    return jax.lax.fori_loop(0, WORD, step, (before, jnp.zeros_like(start)))[1]
