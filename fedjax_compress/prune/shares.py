"""A share of a count, exactly: whole numbers where float32 would lose count.

A share is held as a whole number of 2^-30, which is what a float32 from 2^-7 to 1 is
anyway. Its product with a count of up to 2^31 - 1 has 61 bits. It is taken bit by bit:
floor((floor(x) + i) / 2) = floor((x + i) / 2) for whole i, so nothing is lost on the
way.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.typing import Array

ONE = 1 << 30
"""The share 1."""


class Portion(NamedTuple):
    """share * count = whole + rest / ONE, with 0 <= rest < ONE; int32, both."""

    whole: Array
    rest: Array


def to_share(value: float | Array) -> Array:
    """A float from 0 to 1 as a whole number of 1 / ONE, uint32; clipped."""
    value = jnp.clip(jnp.asarray(value, jnp.float32), 0, 1)
    return jnp.round(value * ONE).astype(jnp.uint32)


def portion(share: Array, count: int | Array) -> Portion:
    """The share of a count, exactly.

    Args:
      share: uint32, at most ONE, from ``to_share``.
      count: at least 0; a Python int or int32, of a shape that fits that of the share.
    """
    counts = jnp.asarray(count, jnp.uint32)
    share, counts = jnp.broadcast_arrays(share, counts)

    def add_bit(bit: Array, total: Array) -> Array:
        is_set = (share >> bit.astype(jnp.uint32)) & 1
        return (total + is_set * counts) >> 1

    below = jax.lax.fori_loop(0, 30, add_bit, jnp.zeros_like(counts))
    whole = jnp.where(share == ONE, counts, below)
    rest = (share * counts) & (ONE - 1)
    return Portion(whole.astype(jnp.int32), rest.astype(jnp.int32))


def rounded(share: Array, count: int | Array) -> Array:
    """The whole number nearest to the share of a count, halves up; int32."""
    whole, rest = portion(share, count)
    return whole + (rest >= ONE // 2).astype(jnp.int32)
