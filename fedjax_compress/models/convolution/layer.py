"""A convolution in three forms with the same parameters, and max pooling.

Clients have kernels of their own, so a convolution under ``vmap`` over clients becomes
a grouped convolution, which XLA runs slowly; on the CPU any convolution inside an XLA
loop is slow. The forms ``patches`` and ``winograd`` are slices, concatenation and
matrix products, which ``vmap`` turns into batched matrix products.
"""

from __future__ import annotations

import functools
import operator
from typing import Literal

import jax.numpy as jnp
from flax import linen
from jax import lax

from fedjax_compress.models.convolution.forms import Form, resolve
from fedjax_compress.models.convolution.winograd import Around, suits, winograd
from fedjax_compress.typing import Array

Padding = Literal["SAME", "VALID"] | Around

THIN = 16
"""Below this number of input channels, full patches and one product are faster than
patches along the width and one product per kernel row (measured on a CPU)."""


class Convolution(linen.Module):
    """Two-dimensional convolution.

    y[b, i, j, o] = bias[o] + sum_{r, s, c} x[b, t i + r, t j + s, c] kernel[r, s, c, o]
    with stride t, for SAME after padding x with size-1 zeros in all, the smaller half
    first, whatever the stride (what PyTorch's padding=1 is for a 3x3 kernel).

    Parameters: ``kernel`` [size, size, channels, features] (by default normal of
    variance 1 / (size * size * channels), truncated) and, unless left out, ``bias``
    [features] (zeros), whatever the form.

    Attributes:
      features: number of output channels.
      size: height and width of the kernel.
      padding: SAME or VALID.
      form: see ``forms.Form``.
      stride: steps of the kernel along height and width.
      bias: whether there is a bias.
      kernel_init: draws the kernel.
    """

    features: int
    size: int
    padding: Literal["SAME", "VALID"] = "SAME"
    form: Form = "auto"
    stride: int = 1
    bias: bool = True
    kernel_init: linen.initializers.Initializer = linen.initializers.lecun_normal()

    @linen.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = convolve(x, kernel, self.padding, self.form, self.stride)
        if not self.bias:
            return y
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        return y + bias.reshape(1, 1, 1, -1)


def convolve(
    x: Array, kernel: Array, padding: Padding, form: Form = "auto", stride: int = 1
) -> Array:
    """The convolution in the form asked for.

    Args:
      x: [batch, height, width, channels].
      kernel: [rows, columns, channels, features].
      padding: SAME, VALID, or the zeros before and after each of the two axes.
      form: see ``forms.Form``; ``winograd`` needs stride one, else it is patches.
      stride: steps of the kernel along height and width.
    """
    form = resolve(form)
    if form == "direct":
        return direct(x, kernel, padding, stride)
    around = zeros_around(kernel, padding)
    if form == "winograd" and stride == 1 and suits(x, kernel, around):
        return winograd(x, kernel, around)
    return patches(x, kernel, around, (stride, stride))


def direct(x: Array, kernel: Array, padding: Padding, stride: int = 1) -> Array:
    """The convolution as XLA's own operation.

    Args:
      x: [batch, height, width, channels].
      kernel: [rows, columns, channels, features].
      padding: as in ``convolve``; XLA's own SAME depends on the stride, this does not.
      stride: as in ``convolve``.
    """
    around, axes = zeros_around(kernel, padding), ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), around, dimension_numbers=axes
    )


def patches(
    x: Array,
    kernel: Array,
    padding: Padding,
    strides: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    precision: lax.PrecisionLike = None,
) -> Array:
    """The convolution as matrix products of slices.

    Slices shifted along the width are concatenated: [batch, height, width,
    columns * channels]. With few channels those are concatenated along the height as
    well, for one product; else each kernel row multiplies its own slice and the
    products are added, which moves less memory.

    Args:
      x: [batch, height, width, channels].
      kernel: [rows, columns, channels, features].
      padding: as in ``convolve``.
      strides: steps of the kernel along height and width.
      dilation: distances between neighbouring rows and columns of the kernel.
      precision: of the matrix products.
    """
    rows, columns, channels, features = kernel.shape
    around = zeros_around(kernel, padding)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *_pads(around), (0, 0, 0)])
    across = shifted(x, 2, columns, strides[1], dilation[1])
    slices = shifted(jnp.concatenate(across, axis=-1), 1, rows, strides[0], dilation[0])
    matrices = kernel.reshape(rows, columns * channels, features)
    if channels < THIN:
        whole = jnp.concatenate(slices, axis=-1)
        return _product(whole, matrices.reshape(-1, features), precision)
    products = [_product(s, matrices[i], precision) for i, s in enumerate(slices)]
    return functools.reduce(operator.add, products)


def shifted(x: Array, axis: int, count: int, stride: int, dilation: int) -> list[Array]:
    """What each of ``count`` kernel positions along an axis sees of a padded x."""
    reach = (count - 1) * dilation
    length = (x.shape[axis] - reach - 1) // stride + 1
    return [
        lax.slice_in_dim(x, i, i + (length - 1) * stride + 1, stride, axis)
        for i in range(0, reach + 1, dilation)
    ]


def zeros_around(kernel: Array, padding: Padding) -> Around:
    """Zeros before and after, for height and width; the same for every stride."""
    if padding == "SAME":
        return [((n - 1) // 2, n // 2) for n in kernel.shape[:2]]
    if padding == "VALID":
        return [(0, 0), (0, 0)]
    assert not isinstance(padding, str)
    return padding


def _pads(around: Around) -> list[tuple[int, int, int]]:
    return [(before, after, 0) for before, after in around]


def _product(x: Array, matrix: Array, precision: lax.PrecisionLike) -> Array:
    rows = x.reshape(-1, x.shape[-1])
    made = jnp.matmul(rows, matrix, precision=precision)
    return made.reshape(*x.shape[:-1], matrix.shape[-1])


def max_pool(x: Array) -> Array:
    """The largest of each 2 x 2 block; an odd last row or column is left out.

    Reshapes and maxima instead of a windowed reduction, which is slower. Where numbers
    of a block tie, they share the gradient.

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
