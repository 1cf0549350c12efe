"""A convolution in two forms with the same parameters, and max pooling.

Clients have kernels of their own, so a convolution under ``vmap`` over clients becomes
a grouped convolution, which XLA runs slowly; on the CPU any convolution inside an XLA
loop is slow. The form ``patches`` is slices, concatenation and matrix products, which
``vmap`` turns into batched matrix products.
"""

from __future__ import annotations

import functools
import operator
from typing import Literal

import jax.numpy as jnp
from flax import linen
from jax import lax

from fedjax_compress.typing import Array

Form = Literal["patches", "direct"]
Padding = Literal["SAME", "VALID"]

THIN = 16
"""Below this number of input channels, full patches and one product are faster than
patches along the width and one product per kernel row (measured on a CPU)."""


class Convolution(linen.Module):
    """Two-dimensional convolution of stride one with bias.

    y[b, i, j, o] = bias[o] + sum_{r, s, c} x[b, i + r, j + s, c] kernel[r, s, c, o],
    for SAME after padding x with size-1 zeros in all, the smaller half first.

    Parameters: ``kernel`` [size, size, channels, features] (normal of variance
    1 / (size * size * channels), truncated) and ``bias`` [features] (zeros), whatever
    the form.

    Attributes:
      features: number of output channels.
      size: height and width of the kernel.
      padding: SAME or VALID.
      form: ``patches`` or ``direct`` (``lax.conv_general_dilated``).
    """

    features: int
    size: int
    padding: Padding = "SAME"
    form: Form = "patches"

    @linen.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", linen.initializers.lecun_normal(), shape)
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        convolve = direct if self.form == "direct" else patches
        return convolve(x, kernel, self.padding) + bias


def direct(x: Array, kernel: Array, padding: Padding) -> Array:
    """The convolution as XLA's own operation.

    Args:
      x: [batch, height, width, channels].
      kernel: [rows, columns, channels, features].
      padding: SAME or VALID.
    """
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=axes)


def patches(x: Array, kernel: Array, padding: Padding) -> Array:
    """The convolution as matrix products of slices; equals ``direct``.

    Slices shifted along the width are concatenated: [batch, height, width,
    columns * channels]. With few channels those are concatenated along the height as
    well, for one product; else each kernel row multiplies its own slice and the
    products are added, which moves less memory.

    Args:
      x: [batch, height, width, channels].
      kernel: [rows, columns, channels, features].
      padding: SAME or VALID.
    """
    rows, columns, channels, features = kernel.shape
    if padding == "SAME":
        around = [((n - 1) // 2, n // 2) for n in (rows, columns)]
        x = jnp.pad(x, ((0, 0), *around, (0, 0)))
    height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    wide = jnp.concatenate([x[:, :, j : j + width] for j in range(columns)], axis=-1)
    slices = [wide[:, i : i + height] for i in range(rows)]
    matrices = kernel.reshape(rows, columns * channels, features)
    if channels < THIN:
        whole = jnp.concatenate(slices, axis=-1)
        return _product(whole, matrices.reshape(-1, features))
    products = [_product(part, matrices[i]) for i, part in enumerate(slices)]
    return functools.reduce(operator.add, products)


def _product(x: Array, matrix: Array) -> Array:
    rows = x.reshape(-1, x.shape[-1])
    return (rows @ matrix).reshape(*x.shape[:-1], matrix.shape[-1])


def max_pool(x: Array) -> Array:
    """The largest of each 2 x 2 block; an odd last row or column is left out.

    Reshapes and maxima instead of a windowed reduction, which is slower.

    Args:
      x: [batch, height, width, channels].

    Returns:
      [batch, height // 2, width // 2, channels].
    """
    batch, height, width, channels = x.shape
    high, wide = height // 2, width // 2
    x = x[:, : 2 * high, : 2 * wide].reshape(batch, high, 2, wide, 2, channels)
    upper = jnp.maximum(x[:, :, 0, :, 0], x[:, :, 0, :, 1])
    lower = jnp.maximum(x[:, :, 1, :, 0], x[:, :, 1, :, 1])
    return jnp.maximum(upper, lower)
