"""Convolution by minimal filtering: fewer multiplications, a little more rounding."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedjax_compress.typing import Array

OUTPUTS = 4
"""Outputs of a tile along each axis. A 3x3 kernel has tiles of 6x6 inputs, a 5x5 kernel
of 8x8: 4 and 6.25 times fewer multiplications than the definition."""
SIZES = (3, 5)
"""Kernel sizes for which this was measured; larger ones round too much."""
FEW = 512
"""Below this product of input and output channels the transforms cost more than the
products save (measured on a CPU)."""
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)

EXACT = lax.Precision.HIGHEST
"""The transforms magnify rounding: fast low-precision products would spoil it."""
_EXACTLY = functools.partial(jnp.matmul, precision=EXACT)

Around = Sequence[tuple[int, int]]


def suits(x: Array, kernel: Array, around: Around) -> bool:
    """Whether ``winograd`` is exact enough for these, and likely to be faster.

    Square kernels of 3 or 5 in float32 or float64, enough channels, and at least
    twice fewer multiplications (an image much smaller than its tiles wastes them).
    """
    size, columns, channels, features = kernel.shape
    if size != columns or size not in SIZES or channels * features < FEW:
        return False
    if x.dtype != kernel.dtype or x.dtype not in (jnp.float32, jnp.float64):
        return False
    outputs = _outputs(x, size, around)
    spent = [(OUTPUTS + size - 1) * -(-n // OUTPUTS) for n in outputs]
    return 0 < 2 * math.prod(spent) <= math.prod(outputs) * size**2


def winograd(x: Array, kernel: Array, around: Around) -> Array:
    """The convolution of stride one as products in a transformed domain.

    With m = 4 outputs per axis of a tile, kernel size r and n = m + r - 1, each tile
    d [n, n] of the input and kernel g [r, r] give the outputs

      Y = A' [(G g G') * (B' d B)] A,

    where * is elementwise, summed over input channels: n * n matrix products
    [tiles, channels] @ [channels, features]. Each transform is one product with the
    Kronecker product of its matrix with itself. Relative rounding error about 1.4e-6
    for 3x3 and 3.3e-6 for 5x5 in float32 (root mean square, 32 channels; of
    ``patches`` 2e-7).

    Args:
      x: [batch, height, width, channels], float32 or float64.
      kernel: [size, size, channels, features], of the same dtype.
      around: zeros before and after, for height and for width; may be negative.

    Reference: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
      (2016); the matrices are derived in ``transforms``.
    """
    size, _, channels, features = kernel.shape
    tile = OUTPUTS + size - 1
    height, width = _outputs(x, size, around)
    to_outputs, of_kernel, of_tiles = (
        np.kron(matrix, matrix).astype(x.dtype) for matrix in transforms(OUTPUTS, size)
    )
    tiles = _tiles(_tiles(x, 1, size, around[0]), 3, size, around[1])
    batch, high, _, wide, _, _ = tiles.shape
    tiles = tiles.transpose(2, 4, 0, 1, 3, 5).reshape(tile * tile, -1)
    inputs = _EXACTLY(of_tiles, tiles).reshape(tile * tile, -1, channels)
    weights = _EXACTLY(of_kernel, kernel.reshape(size * size, -1)).reshape(
        tile * tile, channels, features
    )
    products = _products(inputs, weights).reshape(tile * tile, -1)
    made = _EXACTLY(to_outputs, products).reshape(
        OUTPUTS, OUTPUTS, batch, high, wide, features
    )
    made = made.transpose(2, 3, 0, 4, 1, 5)
    made = made.reshape(batch, high * OUTPUTS, wide * OUTPUTS, features)
    return made[:, :height, :width]


@functools.cache
def transforms(outputs: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A' [outputs, n], G [n, size], B' [n, n] with y = A' [(G g) * (B' d)].

    y_i = sum_k g_k d_{i+k} for i < outputs, n = outputs + size - 1. Multiplying
    polynomials by their values at n - 1 points and infinity, with the two factors'
    roles exchanged. The rows of B' are scaled to the denominators of interpolation.

    Args:
      outputs: number of outputs of one tile.
      size: number of weights; n is at most 8, the number of points plus infinity.
    """
    points = np.array(POINTS[: outputs + size - 2])

    def values(terms: int) -> np.ndarray:
        infinity = np.eye(1, terms, terms - 1)
        return np.vstack([np.vander(points, terms, increasing=True), infinity])

    others = points[:, None] - points[None, :] + np.eye(len(points))
    scale = np.append(np.prod(others, axis=1), 1.0)[:, None]
    inverse = np.linalg.inv(values(outputs + size - 1)).T
    return values(outputs).T, values(size) / scale, inverse * scale


def _outputs(x: Array, size: int, around: Around) -> list[int]:
    return [
        n + before + after - size + 1
        for n, (before, after) in zip(x.shape[1:3], around, strict=True)
    ]


def _tiles(x: Array, axis: int, size: int, around: tuple[int, int]) -> Array:
    """One axis split into (tile, place in the tile); tiles overlap by size - 1.

    The size - 1 inputs that a tile shares with the next are those with which the
    next begins (size - 1 <= OUTPUTS), so two slices of a reshape are all it takes.
    """
    length = x.shape[axis]
    outputs = length + sum(around) - size + 1
    count = -(-outputs // OUTPUTS)
    zeros = [(0, 0, 0)] * x.ndim
    before = around[0]
    zeros[axis] = (before, (count + 1) * OUTPUTS - length - before, 0)
    padded = lax.pad(x, jnp.zeros((), x.dtype), zeros)
    shape = (*x.shape[:axis], count + 1, OUTPUTS, *x.shape[axis + 1 :])
    blocks = padded.reshape(shape)
    own = lax.slice_in_dim(blocks, 0, count, axis=axis)
    following = lax.slice_in_dim(blocks, 1, count + 1, axis=axis)
    shared = lax.slice_in_dim(following, 0, size - 1, axis=axis + 1)
    return jnp.concatenate([own, shared], axis=axis + 1)


@jax.custom_jvp
def _products(inputs: Array, weights: Array) -> Array:
    """[n, tiles, channels] @ [n, channels, features].

    With a derivative rule of its own only for its speed: the gradient of the weights
    wants the inputs transposed in memory, and the forward product can use the same.
    """
    return _EXACTLY(inputs, weights)


@_products.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (inputs, weights), (inputs_dot, weights_dot) = primals, tangents
    turned = lax.optimization_barrier(inputs.transpose(0, 2, 1))
    made = _turned_products(turned, weights)
    return made, _EXACTLY(inputs_dot, weights) + _turned_products(turned, weights_dot)


def _turned_products(turned: Array, weights: Array) -> Array:
    return lax.dot_general(turned, weights, (((1,), (1,)), ((0,), (0,))), EXACT)
