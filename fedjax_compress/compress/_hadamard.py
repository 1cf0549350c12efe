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

_EXACT = jax.lax.Precision.HIGHEST
RUN = 16
"""Elements of a block that lie side by side."""
_SHORTER, _SHORTEST = 16, 256
"""Blocks may be shorter by this factor, but not than this, to divide the vector."""
_RADIX = 8
"""Size of the Hadamard matrices for all other axes; the last may have twice as many."""


@register("stage")
def hadamard(block: int = 8192) -> Stage:
    """Randomized Hadamard rotation of the flat vector, in blocks.

    R x = H D x / sqrt(N) in each block of N elements, D random signs, H the
    Sylvester-Hadamard matrix: orthonormal, and afterwards every element is close to
    Gaussian with the variance of its block, which is what a following quantizer likes.
    N = min(block, the largest power of two <= n), or up to 16 times less, but at least
    256, where that divides n. As many full blocks as there are share the front: each
    takes a run of min(N, 16) elements in turn, so that a region of large elements is
    spread over all blocks; a few single ones are not, and then the blocks' variances
    differ. If elements remain, the last N elements are then rotated
    once more, with signs of their own, overlapping what is rotated already. Decoding
    undoes both in reverse order.

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
    return rotation(block, shorter=True)


def rotation(block: int, shorter: bool) -> Stage:
    """The stage of ``hadamard``.

    Args:
      block: its option.
      shorter: whether blocks may be shorter to divide the vector, which saves the last
        rotation. Who sends a number for each block takes as few as there can be.

    Raises:
      InputError: block is not a power of two.
    """
    if block < 1 or block & (block - 1):
        raise InputError(f"block must be a power of two, not {block}")

    def encode(array, keys):
        shape, vector = wire.shape_of(array), flat(array)
        size, front = cut(vector.size, block, shorter)
        head = rotate(vector[:front] * _signs(keys.shared, 0, front), size)
        if front == vector.size:
            return head, {"shape": shape}
        vector = jnp.concatenate([head, vector[front:]])
        tail = rotate(vector[-size:] * _signs(keys.shared, 1, size), size)
        return jnp.concatenate([vector[:-size], tail]), {"shape": shape}

    def decode(carrier, side, shared):
        vector = flat(carrier)
        size, front = cut(vector.size, block, shorter)
        if front < vector.size:
            tail = rotate(vector[-size:], size) * _signs(shared, 1, size)
            vector = jnp.concatenate([vector[:-size], tail])
        head = rotate(vector[:front], size) * _signs(shared, 0, front)
        if front < vector.size:
            head = jnp.concatenate([head, vector[front:]])
        return head.reshape(side["shape"].shape)

    claims = Claims(
        unbiased=True, omega=lambda n: 0.0, alpha=lambda n: 1.0, linear=True
    )
    return stateless(encode, decode, claims)


def cut(n: int, block: int, shorter: bool) -> tuple[int, int]:
    """Block size, and the number of elements in full blocks at the front."""
    size = min(block, 1 << (n.bit_length() - 1)) if n else 1
    divisor = n & -n
    if shorter and max(size // _SHORTER, _SHORTEST) <= divisor < size:
        size = divisor
    return size, n - n % size


def _signs(key: Key, rotation: int, n: int) -> Array:
    """Random signs, float32 [n]; each rotation has its own.

    One draw a sign: on a CPU, taking apart words of 32 signs costs more than drawing.
    """
    words = jax.random.bits(jax.random.fold_in(key, rotation), (n,), jnp.uint32)
    return 1 - 2 * (words >> 31).astype(jnp.int32).astype(jnp.float32)


@functools.cache
def matrix(size: int) -> np.ndarray:
    """The Sylvester-Hadamard matrix over sqrt(size), float32 [size, size]."""
    one = np.ones((1, 1))
    while one.shape[0] < size:
        one = np.block([[one, one], [one, -one]])
    return (one / math.sqrt(size)).astype(np.float32)


def rotate(vector: Array, size: int) -> Array:
    """The orthonormal Hadamard transform of each block of ``size`` elements.

    A block takes runs of r = min(size, 16) elements in turn: seen as an array
    [size / r, blocks, r], block j is [:, j, :].

    H of size a b r is the Kronecker product of H_a, H_b, H_r: seen as an array
    [a, b, blocks, r], the transform multiplies each of these axes with its own small
    matrix. That is a few matrix products instead of log2(size) steps of additions,
    and nothing is moved: an axis further to the front is multiplied from the left,
    the last one from the right.

    Args:
      vector: [n], n a multiple of ``size``.
      size: a power of two.
    """
    run = min(size, RUN)
    done, left = 1, size // run
    while left > 1:
        factor = left if left <= 2 * _RADIX else _RADIX
        vector = _left(vector.reshape(done, factor, -1)).reshape(-1)
        done, left = done * factor, left // factor
    rows = vector.reshape(-1, run)
    return jnp.matmul(rows, matrix(run), precision=_EXACT).reshape(-1)


def _left(grid: Array) -> Array:
    """The transform along the middle axis of [rows, factor, columns].

    The matrix is given in each row, and under vmap in each lane. A matrix of its own
    would have vmap multiply all lanes at once, inside out, and move them back. The
    zero that ties it to the lanes is gone when the program is compiled.
    """
    factor = grid.shape[1]
    corner = jax.lax.stop_gradient(grid[:, :1, :1])
    each = matrix(factor)[None] + (corner.astype(jnp.int32) * 0).astype(jnp.float32)
    return jnp.matmul(each, grid, precision=_EXACT)
