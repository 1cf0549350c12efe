"""Randomized Hadamard rotation: spreads a vector evenly over its coordinates."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import wire
from fedjax_compress.compress.stages import flat, stateless
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Key, Stage

_RADIX = 32
"""Largest Hadamard matrix that is multiplied with densely."""


@register("stage")
def hadamard(block: int = 32768) -> Stage:
    """Randomized Hadamard rotation of the flat vector, in blocks.

    R x = H D x / sqrt(N) in each block of N elements, D random signs, H the
    Sylvester-Hadamard matrix: orthonormal, and afterwards every element is close to
    Gaussian with the same variance, which is what a following quantizer likes.
    N = min(block, the largest power of two <= n). Full blocks are rotated from the
    front; if elements remain, the last N elements are then rotated once more, with
    signs of their own, overlapping what is rotated already. Decoding undoes both in
    reverse order.

    What travels: nothing but the carrier, n elements; the shared key gives the signs.

    Args:
      block: largest block, a power of two.

    Raises:
      InputError: block is not a power of two.

    Claims: unbiased, omega = 0, linear (up to rounding).

    Reference: Konecny et al. 2016, Suresh et al. 2017.
    Deviation: the papers pad the vector to a power of two and send the padding too, up
    to twice as many elements. Two overlapping orthonormal rotations touch every
    element and leave n as it is.
    """
    if block < 1 or block & (block - 1):
        raise InputError(f"block must be a power of two, not {block}")

    def encode(array, coin):
        shape, vector = wire.shape_of(array), flat(array)
        size, front = _cut(vector.size, block)
        signs, again = _signs(coin.shared, vector.size, size)
        head = rotate((vector[:front] * signs[:front]).reshape(-1, size)).reshape(-1)
        vector = jnp.concatenate([head, vector[front:]])
        if front < vector.size:
            tail = rotate(vector[-size:] * again)
            vector = jnp.concatenate([vector[:-size], tail])
        return vector, {"shape": shape}

    def decode(carrier, side, shared):
        vector = flat(carrier)
        size, front = _cut(vector.size, block)
        signs, again = _signs(shared, vector.size, size)
        if front < vector.size:
            tail = rotate(vector[-size:]) * again
            vector = jnp.concatenate([vector[:-size], tail])
        head = rotate(vector[:front].reshape(-1, size)).reshape(-1) * signs[:front]
        vector = jnp.concatenate([head, vector[front:]])
        return vector.reshape(side["shape"].shape)

    claims = Claims(
        unbiased=True, omega=lambda n: 0.0, alpha=lambda n: 1.0, linear=True
    )
    return stateless(encode, decode, claims)


def _cut(n: int, block: int) -> tuple[int, int]:
    """Block size, and the number of elements in full blocks at the front."""
    size = min(block, 1 << (n.bit_length() - 1)) if n else 1
    return size, n - n % size


def _signs(key: Key, n: int, size: int) -> tuple[Array, Array]:
    """Random signs for all elements, and for the second rotation of the last ones."""
    words = jax.random.bits(key, (-(-(n + size) // 32),), jnp.uint32)
    bits = (words[:, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    signs = 1 - 2 * bits.reshape(-1).astype(jnp.float32)
    return signs[:n], signs[n : n + size]


@functools.cache
def matrix(size: int) -> np.ndarray:
    """The Sylvester-Hadamard matrix over sqrt(size), float32 [size, size]."""
    one = np.ones((1, 1))
    while one.shape[0] < size:
        one = np.block([[one, one], [one, -one]])
    return (one / math.sqrt(size)).astype(np.float32)


def rotate(blocks: Array) -> Array:
    """The orthonormal Hadamard transform along the last axis, a power of two.

    H of N = a b c is the Kronecker product of H_a, H_b, H_c: seen as an array
    [a, b, c], the transform multiplies each axis with its own small matrix. That is a
    few matrix products instead of log2(N) steps of additions. Each step multiplies
    the last axis, whose elements lie side by side, and moves it to the front; after
    the last step the axes stand as they stood.
    """
    size = left = blocks.shape[-1]
    grid = blocks
    while left > 1:
        factor = min(_RADIX, left)
        grid = grid.reshape(-1, size // factor, factor)
        highest = jax.lax.Precision.HIGHEST
        grid = jnp.matmul(grid, matrix(factor), precision=highest).swapaxes(1, 2)
        left //= factor
    return grid.reshape(blocks.shape)
