"""What the sparsifiers share: residuals, symbols of a sign, values that are sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import as_sent
from fedjax_compress.numerics.ranking import magnitudes
from fedjax_compress.typing import Array, Key, Keys, Side, Stage

Indices = Literal["golomb", "fixed", "words", "bitmask", "runs"]
"""Codes of the positions: ``wire``'s codes ``sparse_golomb`` and so on."""


def with_residual(
    encode: Callable[[Array, Array, Keys], Side],
    decode: Callable[[Any, Side, Key], Array],
) -> Stage:
    """A stage that adds to each array what its messages have left out so far.

    P = e + x; C = what arrives for P, in the dtype of x; e' = P - C, so that
    sum_t C_t + e_T = sum_t x_t + e_0. The residual e is float32.

    Args:
      encode: (P float32, x, keys) -> side information.
      decode: (None, side information, shared key) -> float32 array.
    """

    def init(shape):
        return jnp.zeros(shape.shape, jnp.float32)

    def add(array, residual, keys):
        due = residual + array.astype(jnp.float32)
        side = encode(due, array, keys)
        arrived = as_sent(decode(None, side, keys.shared), array.dtype)
        return None, side, due - arrived

    return Stage(init, add, decode)


def signs(plus: Array, minus: Array, indices: Indices) -> wire.Field:
    """A ternary field: 1 where plus, 2 where minus, 0 (not sent) elsewhere."""
    symbols = plus.astype(jnp.uint8) + 2 * minus.astype(jnp.uint8)
    return wire.Field(symbols, 3, f"sparse_{indices}")


def from_signs(field: wire.Field, plus: Array, minus: Array) -> Array:
    """plus where 1, minus where 2, else 0; or NaN where one of the two is NaN."""
    symbols = field.symbols
    sent = jnp.where(symbols == 1, plus, minus)
    return jnp.where(symbols == 0, plus - plus + (minus - minus), sent)


def values(array: Array, mask: Array, dtype: Any, indices: Indices) -> wire.Field:
    """The elements of float32 under the mask, as words of the dtype; never -0.0."""
    words = jnp.dtype(f"uint{8 * jnp.dtype(dtype).itemsize}")
    pattern = jax.lax.bitcast_convert_type(as_sent(array, dtype).astype(dtype), words)
    sent = jnp.where(mask & (pattern << 1 != 0), pattern, 0)
    symbols = jax.lax.bitcast_convert_type(sent, dtype)
    return wire.Field(symbols, 2 ** (8 * words.itemsize), f"sparse_{indices}")


def strided(array: Array, share: float, least: int, key: Key) -> Array:
    """Every s-th element of a vector, from a random start; all if it is too short.

    Args:
      array: [n].
      share: 1 / s, rounded so that s is whole.
      least: elements wanted; s is smaller where there would be fewer.
      key: says where to start.
    """
    stride = max(1, min(round(1 / share), array.size // max(least, 1)))
    if stride == 1:
        return array
    rows = array[: array.size // stride * stride].reshape(-1, stride)
    start = jax.random.randint(key, (), 0, stride)
    return jax.lax.dynamic_index_in_dim(rows, start, axis=1, keepdims=False)


def flat_magnitudes(array: Array) -> Array:
    """``magnitudes`` of all elements, [n]."""
    return magnitudes(array).reshape(-1)
