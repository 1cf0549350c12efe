"""Conformer blocks: half a feed-forward, attention, convolution, the other half."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from fedjax_compress.typing import Array

Norm = Literal["group", "layer"]
_EPSILON = 1e-6
_NEVER = -1e30


class Sizes(NamedTuple):
    """Of one block.

    Attributes:
      width: of what flows through.
      first, second: hidden units of the two feed-forward modules.
      heads: of the attention.
      head: width of a head.
      groups: of channels, in the convolution module.
      channels: in a group.
      kernel: frames that the convolution sees.
    """

    width: int
    first: int
    second: int
    heads: int
    head: int
    groups: int
    channels: int
    kernel: int


class Block(linen.Module):
    """x + F1(x) / 2, + attention, + convolution, + F2 / 2, then a layer norm.

    Attributes:
      sizes: see ``Sizes``.
      norm: in the convolution module: ``group``, over a group's channels and the real
        frames of a row; ``layer``, over the channels of a frame.
      dropout: share of what each module adds that is dropped in training.
    """

    sizes: Sizes
    norm: Norm = "group"
    dropout: float = 0.0

    @linen.compact
    def __call__(self, x: Array, real: Array, positions: Array, train: bool) -> Array:
        """The block.

        Args:
          x: [batch, frames, width].
          real: bool [batch, frames], which frames are no padding.
          positions: [2 frames - 1, width], see ``distances``.
          train: whether anything is dropped.
        """
        sizes = self.sizes
        drop = linen.Dropout(self.dropout, deterministic=not train)
        first, last = (
            _FeedForward(sizes.width, hidden, self.dropout, name=f"feed_forward_{i}")
            for i, hidden in ((1, sizes.first), (2, sizes.second))
        )
        x = x + 0.5 * drop(first(x, train))
        attention = _Attention(sizes.width, sizes.heads, sizes.head, name="attention")
        x = x + drop(attention(x, real, positions))
        x = x + drop(_Convolution(sizes, self.norm, name="convolution")(x, real))
        x = x + 0.5 * drop(last(x, train))
        return linen.LayerNorm(name="norm")(x)


class _FeedForward(linen.Module):
    width: int
    hidden: int
    dropout: float

    @linen.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = linen.LayerNorm(name="norm")(x)
        x = linen.swish(linen.Dense(self.hidden, name="in")(x))
        x = linen.Dropout(self.dropout, deterministic=not train)(x)
        return linen.Dense(self.width, name="out")(x)


class _Attention(linen.Module):
    """Attention with relative positions, as in Transformer-XL: the score of key j for
    query i is ((q_i + u) k_j + (q_i + v) P r_{i - j}) / sqrt(head), r a sinusoid."""

    width: int
    heads: int
    head: int

    @linen.compact
    def __call__(self, x: Array, real: Array, positions: Array) -> Array:
        batch, frames, _ = x.shape
        wide = self.heads * self.head
        x = linen.LayerNorm(name="norm")(x)

        def by_head(x: Array) -> Array:
            return x.reshape(*x.shape[:-1], self.heads, self.head)

        query, key, value = (
            by_head(linen.Dense(wide, name=name)(x))
            for name in ("query", "key", "value")
        )
        place = by_head(linen.Dense(wide, use_bias=False, name="position")(positions))
        zeros = linen.initializers.zeros
        u, v = (
            by_head(self.param(name, zeros, (wide,)))[None, None]
            for name in ("content_bias", "position_bias")
        )
        content = jnp.einsum("bihd,bjhd->bhij", query + u, key)
        distance = shifted(jnp.einsum("bihd,mhd->bhim", query + v, place))
        scores = (content + distance) / np.float32(np.sqrt(self.head))
        scores = jnp.where(real[:, None, None, :], scores, _NEVER)
        weights = jax.nn.softmax(scores, axis=-1)
        found = jnp.einsum("bhij,bjhd->bihd", weights, value)
        return linen.Dense(self.width, name="out")(found.reshape(batch, frames, wide))


class _Convolution(linen.Module):
    sizes: Sizes
    norm: Norm

    @linen.compact
    def __call__(self, x: Array, real: Array) -> Array:
        sizes = self.sizes
        channels, kernel = sizes.groups * sizes.channels, sizes.kernel
        x = linen.LayerNorm(name="norm")(x)
        first, gate = jnp.split(linen.Dense(2 * channels, name="pointwise_1")(x), 2, -1)
        x = jnp.where(real[..., None], first * jax.nn.sigmoid(gate), 0.0)
        start = linen.initializers.normal(kernel**-0.5)
        weights = self.param("depthwise", start, (kernel, channels))
        bias = self.param("depthwise_bias", linen.initializers.zeros, (channels,))
        x = depthwise(x, weights) + bias[None, None]
        if self.norm == "layer":
            x = linen.LayerNorm(name="depthwise_norm")(x)
        else:
            x = GroupNorm(sizes.groups, name="depthwise_norm")(x, real)
        return linen.Dense(sizes.width, name="pointwise_2")(linen.swish(x))


class GroupNorm(linen.Module):
    """Mean 0 and variance 1 over a group's channels and the real frames of a row.

    Parameters ``scale`` (ones) and ``bias`` (zeros), one for each channel.
    """

    groups: int

    @linen.compact
    def __call__(self, x: Array, real: Array) -> Array:
        shape, channels = x.shape, x.shape[-1]
        scale = self.param("scale", linen.initializers.ones, (channels,))
        bias = self.param("bias", linen.initializers.zeros, (channels,))
        x = x.reshape(*shape[:2], self.groups, -1)
        counts = real.astype(x.dtype)[:, :, None, None]
        number = jnp.maximum(jnp.sum(counts, (1, 3), keepdims=True), 1.0) * x.shape[-1]

        def mean(x: Array) -> Array:
            return jnp.sum(x * counts, (1, 3), keepdims=True) / number

        centred = x - mean(x)
        x = centred * jax.lax.rsqrt(mean(centred * centred) + _EPSILON)
        return x.reshape(shape) * scale[None, None] + bias[None, None]


def depthwise(x: Array, weights: Array) -> Array:
    """Each channel convolved over frames by its own kernel, zeros around.

    y[t] = sum_i w[i] x[t + i - (kernel - 1) // 2], as a sum of shifted products: on a
    CPU, under vmap over weights, an eighth of the time of a grouped convolution.

    Args:
      x: [batch, frames, channels].
      weights: [kernel, channels].
    """
    kernel, frames = len(weights), x.shape[1]
    before = (kernel - 1) // 2
    padded = jnp.pad(x, ((0, 0), (before, kernel - 1 - before), (0, 0)))
    return sum(
        (padded[:, i : i + frames] * weights[i][None, None] for i in range(kernel)),
        start=jnp.zeros((), x.dtype),
    )


def distances(frames: int, width: int) -> np.ndarray:
    """Sinusoids of the distances frames - 1, ..., -(frames - 1) from query to key.

    float32 [2 frames - 1, width]: sines of distance / 10000^(2 i / width), then
    cosines.
    """
    distance = np.arange(frames - 1, -frames, -1)[:, None]
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = distance * rates[None]
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return table[:, :width].astype(np.float32)


def shifted(scores: Array) -> Array:
    """[..., i, distance frames - 1 - m] -> [..., i, j], distance i - j.

    Args:
      scores: [..., frames, 2 frames - 1].
    """
    *outer, frames, wide = scores.shape
    padded = jnp.pad(scores, [(0, 0)] * (len(outer) + 1) + [(1, 0)])
    rows = padded.reshape(*outer, wide + 1, frames)[..., 1:, :]
    return rows.reshape(*outer, frames, wide)[..., :frames]
