"""From frames of a spectrogram to fewer and wider ones."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from flax import linen
from jax import lax

from fedjax_compress.models.inputs import within
from fedjax_compress.typing import Array

Subsampling = Literal["stack", "convolution"]


def _widened(width: int, x: Array) -> Array:
    """A dense layer whose bias is not 0 at first: a frame that is masked as a whole
    would be 0 then, where layer norms one after another have gradients of 1e14."""
    bias = linen.initializers.normal(0.1)
    return linen.Dense(width, bias_init=bias, name="dense")(x)


class Stack(linen.Module):
    """Frames that follow each other side by side, through a dense layer.

    Parameters ``dense`` (``kernel`` [stack bins, width]; ``bias``, normal of standard
    deviation 0.1).
    """

    width: int
    stack: int

    @linen.compact
    def __call__(self, x: Array, lengths: Array) -> tuple[Array, Array]:
        """[batch, frames, bins] -> [batch, ceil(frames / stack), width], lengths."""
        batch, frames, bins = x.shape
        fewer = -(-frames // self.stack)
        x = jnp.pad(x, ((0, 0), (0, fewer * self.stack - frames), (0, 0)))
        x = x.reshape(batch, fewer, self.stack * bins)
        return _widened(self.width, x), -(-lengths // self.stack)


class Halving(linen.Module):
    """Two convolutions of 3 x 3 and stride 2 with ReLU, then a dense layer.

    A quarter of the frames; frame t of the first sees frames 2 t - 1 to 2 t + 1,
    however many there are. Parameters ``conv_1_kernel`` [3, 3, 1, width],
    ``conv_1_bias``, ``conv_2_kernel`` [3, 3, width, width], ``conv_2_bias``, ``dense``
    (``kernel`` [ceil(bins / 4) width, width], ``bias``).
    """

    width: int

    @linen.compact
    def __call__(self, x: Array, lengths: Array) -> tuple[Array, Array]:
        """[batch, frames, bins] -> [batch, ceil(frames / 4), width], lengths."""
        x = x[..., None]
        for i in (1, 2):
            shape = (3, 3, x.shape[-1], self.width)
            start = linen.initializers.lecun_normal()
            kernel = self.param(f"conv_{i}_kernel", start, shape)
            bias = self.param(f"conv_{i}_bias", linen.initializers.zeros, (self.width,))
            x = lax.conv_general_dilated(
                x, kernel, (2, 2), ((1, 1), (1, 1)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )  # fmt: skip
            x = linen.relu(x + bias[None, None, None])
            lengths = -(-lengths // 2)
            x = jnp.where(within(lengths, x.shape[1])[..., None, None], x, 0.0)
        x = x.reshape(*x.shape[:2], -1)
        return _widened(self.width, x), lengths
