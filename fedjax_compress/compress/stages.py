"""What the stages share: making them, counting kept elements, rounding at random."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Claims, Key, Keys, Side, Stage


def stateless(
    encode: Callable[[Array, Keys], tuple[Array | None, Side]],
    decode: Callable[[Any, Side, Key], Array],
    claims: Claims = Claims(),  # noqa: B008
) -> Stage:
    """A stage that keeps nothing between rounds, from functions without a state."""

    def keep(array, state, keys):
        carrier, side = encode(array, keys)
        return carrier, side, state

    return Stage(lambda shape: (), keep, decode, claims)


def kept(fraction: float, n: int) -> int:
    """Elements kept of ``n``: max(1, ceil(fraction * n)), but none of none.

    Products that miss a whole number by float error count as that number.
    """
    return min(n, max(1, math.ceil(round(fraction * n, 6))))


def check_fraction(fraction: float) -> None:
    """Raises an InputError unless 0 < fraction <= 1."""
    if not 0 < fraction <= 1:
        raise InputError(f"fraction must be above 0 and at most 1, not {fraction}")


def flat(array: Array) -> Array:
    """The elements in C order, as float32."""
    return array.reshape(-1).astype(jnp.float32)


def quotient(array: Array, scale: Array) -> Array:
    """array / scale, and 0 where the scale is below 1.2e-38, the least normal number.

    XLA divides by multiplying with 1 / scale, which is 0 for scales above 8.5e37.
    """
    some = scale >= jnp.finfo(jnp.float32).tiny
    shrink = jnp.where(scale > 1e30, 2.0**-20, 1.0)
    return jnp.where(some, array * shrink / jnp.where(some, scale * shrink, 1), 0)


def relative(array: Array) -> tuple[Array, Array]:
    """The largest magnitude of an array, float32, and the array divided by it.

    Powers of what is returned neither overflow nor underflow as a whole.
    """
    array = array.astype(jnp.float32)
    largest = jnp.max(jnp.abs(array))
    return largest, quotient(array, largest)


def round_up_or_down(position: Array, key: Key) -> Array:
    """Stochastic rounding: floor(x) + Bernoulli(x - floor(x)), so that E[.] = x."""
    floor = jnp.floor(position)
    up = jax.random.uniform(key, position.shape) < position - floor
    return floor + up.astype(floor.dtype)


def nan_unless_finite(scale: Array, array: Array, axis: int | None = None) -> Array:
    """The scale, or NaN where an element that it stands for is not finite.

    Maximum and minimum do not pass NaN on reliably: XLA's CPU backend compiles them
    into instructions that drop it. Whoever sends a scale sends it through here, so
    that a broken update stays recognisable at the other end.
    """
    # x - x is NaN or 0; and sums are what XLA's CPU backend does fast.
    return jnp.where(jnp.sum(array - array, axis) == 0, scale, jnp.nan)


def as_sent(array: Array, dtype: Any) -> Array:
    """Float32 rounded to what a dtype can hold, as float32; the finite stays finite."""
    if jnp.dtype(dtype).itemsize >= 4:
        return array
    kind = jnp.finfo(dtype)
    clipped = jnp.clip(array, -float(kind.max), float(kind.max))
    array = jnp.where(jnp.isfinite(array), clipped, array)
    if kind.nexp == 8:
        # A pair of casts may be left out by XLA, which this may not.
        return jax.lax.reduce_precision(array, kind.nexp, kind.nmant)
    return jax.lax.optimization_barrier(array.astype(dtype)).astype(jnp.float32)
