"""A share of a count, exactly: whole numbers where float32 would lose count.

A share is held as a whole number of 2^-30, which is what a float32 from 2^-7 to 1 is
anyway. Its product with a count of up to 2^31 - 1 has 61 bits. It is taken bit by bit:
floor((floor(x) + i) / 2) = floor((x + i) / 2) for whole i, so nothing is lost on the
way.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.typing import Array

ONE = 1 << 30
"""The share 1."""
_DENOMINATOR = 1 << 15
"""The largest of fractions that stand for a number in Python, if one is that near."""
_NEAR = Fraction(1, 10**9)
"""So near, relative to the number."""


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


def floored(share: float | Array, count: int | Array) -> Array:
    """floor(share * count), int32.

    Args:
      share: from 0 to 1. A number of Python stands for the fraction next to it with a
        denominator of up to 2^15, so that 0.7 of 10 is 7 and not 6, or of up to 2^30
        where that is off by more than 1e-9 of it; above 0 it is at least 2^-30. An
        array is taken as ``to_share`` takes it.
      count: at least 0, below 2^31; a Python int or int32.
    """
    if isinstance(share, jax.Array | np.ndarray | np.generic):
        return portion(to_share(share), count).whole
    return _of_fraction(share, jnp.asarray(count, jnp.int32), 0)


def ceiled(share: float, count: int | Array) -> Array:
    """ceil(share * count), int32, of a number of Python as ``floored`` takes it."""
    return _of_fraction(share, jnp.asarray(count, jnp.int32), 1)


def _of_fraction(share: float, count: Array, up: int) -> Array:
    """Up to the next whole number, or down: p n / q with n = a q + b is p a + p b / q,
    and p b is below 2^30."""
    exact = Fraction(str(min(max(share, 0), 1)))  # as it is written
    near = exact.limit_denominator(_DENOMINATOR)
    if abs(near - exact) > _NEAR * exact:
        return _by_bits(exact, count, up)
    p, q = near.as_integer_ratio()
    return p * (count // q) + (p * (count % q) + up * (q - 1)) // q


def _by_bits(exact: Fraction, count: Array, up: int) -> Array:
    """The same, a bit of the count at a time: p n / q = whole + rest / q, and of a bit
    more 2 rest + p is below 3 * 2^30."""
    near = max(exact, Fraction(1, ONE)).limit_denominator(ONE)
    p, q = near.as_integer_ratio()
    counts = count.astype(jnp.uint32)

    def add_bit(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        whole, rest = carry
        rest = 2 * rest + ((counts >> (30 - i).astype(jnp.uint32)) & 1) * p
        return 2 * whole + rest // q, rest % q

    start = jnp.zeros_like(counts), jnp.zeros_like(counts)
    whole, rest = jax.lax.fori_loop(0, 31, add_bit, start)
    return whole.astype(jnp.int32) + up * (rest > 0).astype(jnp.int32)
