"""Random permutations of 0 .. n-1 that are computed element by element.

Sorting random numbers costs O(n log n) and needs n to be a static shape. Here n is a
traced number and each element is found on its own, so that a batch of a client with
n rows costs O(batch), whatever n is.

The construction is the swap-or-not shuffle. Round r pairs x with its partner
``(k_r - x) mod n`` and swaps the two iff a hash of the larger of them, keyed by r,
is odd. Each round is its own inverse, hence a bijection for every n >= 1.

Reference: Hoang, Morris, Rogaway, "An Enciphering Scheme Based on a Card Shuffle"
(CRYPTO 2012), algorithm of figure 1. Deviation: a 32-bit integer mixer stands in for
the keyed pseudorandom function; the aim is statistics, not secrecy.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from fedjax_compress.numerics.randomness import mix
from fedjax_compress.typing import Array, Key

ROUNDS = 24
_FUSED = 3
"""Rounds that a compiler may make one kernel of. A round reads its elements thrice;
where a compiler computes a value anew at each use, a kernel of r rounds is 3^r long."""


@functools.partial(jax.jit, static_argnames="unroll")
def permute(key: Key, index: Array, size: Array | int, *, unroll: bool = True) -> Array:
    """The images of ``index`` under a random permutation of 0 .. size-1.

    Args:
      key: selects the permutation.
      index: int array of any shape, each in 0 .. size-1 (other values give values
        out of range; mask them).
      size: int scalar, at least 1; may be traced. At most 2**31 - 1.
      unroll: a few fused kernels, which suit few elements; else a loop over rounds,
        which compiles faster. The result is the same.

    Returns:
      int32 array of the shape of ``index``.
    """
    n = jnp.maximum(jnp.asarray(size).astype(jnp.uint32), 1)
    words = jax.random.bits(key, (ROUNDS, 2), jnp.uint32)
    # The divisions once here, not again in the loop over elements.
    offsets, salts = jax.lax.optimization_barrier((words[:, 0] % n, words[:, 1]))

    def turn(i: int | Array, x: Array) -> Array:
        return _turn(x, offsets[i], salts[i], n)

    x = jnp.asarray(index).astype(jnp.uint32)
    if unroll:
        for i in range(ROUNDS):
            x = turn(i, x)
            if i % _FUSED == _FUSED - 1:
                x = jax.lax.optimization_barrier(x)
    else:
        x = jax.lax.fori_loop(0, ROUNDS, turn, x)
    return x.astype(jnp.int32)


@jax.jit
def _turn(x: Array, offset: Array, salt: Array, n: Array) -> Array:
    """One round for elements x: stay, or go to the partner. Traced once, used often."""
    partner = jnp.where(offset >= x, offset - x, offset + (n - x))
    swap = mix(jnp.maximum(x, partner) ^ salt) & 1
    return jnp.where(swap == 1, partner, x)
