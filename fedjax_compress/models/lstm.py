"""Layers of long short-term memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen
from jax import lax

from fedjax_compress.typing import Array, Key

_EPSILON = 1e-5


class LSTM(linen.Module):
    """One layer of long short-term memory over a sequence, starting from zeros.

    z_t = x_t W + h_{t-1} U + b, split into i, f, g, o;
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);  h_t = sigmoid(o) tanh(c_t).

    Reads [batch, time, inputs], returns h as [batch, time, units]. The products x W of
    all steps are one matrix product.

    Parameters: ``kernel`` W [inputs, 4 units] (normal of variance 1 / inputs,
    truncated), ``recurrent`` U [units, 4 units] (an orthogonal matrix for each gate)
    and ``bias`` b [4 units] (ones for f, else zeros). One bias per gate.

    Attributes:
      units: width of h and c.
    """

    units: int

    @linen.compact
    def __call__(self, x: Array) -> Array:
        width = 4 * self.units
        start = linen.initializers.lecun_normal()
        kernel = self.param("kernel", start, (x.shape[-1], width))
        recurrent = self.param("recurrent", _orthogonal_gates, (self.units, width))
        bias = self.param("bias", _forget_one, (width,))
        drive = jnp.swapaxes(x @ kernel + bias[None, None], 0, 1)
        return jnp.swapaxes(recur(drive, recurrent), 0, 1)


class LayerNormLSTM(linen.Module):
    """``LSTM`` with layer normalisation, starting from zeros.

    z_t = a norm(x_t W) + a' norm(h_{t-1} U) + b, split into i, f, g, o;
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);
    h_t = sigmoid(o) tanh(s norm(c_t) + r);
    norm(v) = (v - mean(v)) / sqrt(variance(v) + 1e-5).

    Mean and variance are of one example at one step: of x_t W and h_{t-1} U over all
    4 units numbers, the gates together, as in the paper. So W and U may be scaled and
    nothing changes but by epsilon. Differentiated automatically, which makes a step
    slower than that of ``LSTM``.

    Reads [batch, time, inputs], returns h as [batch, time, units].

    Parameters: ``kernel`` W, ``recurrent`` U and ``bias`` b as those of ``LSTM``;
    ``kernel_scale`` a and ``recurrent_scale`` a' [4 units] and ``cell_scale`` s [units]
    (ones); ``cell_bias`` r [units] (zeros).

    Attributes:
      units: width of h and c.

    Reference: Ba, Kiros and Hinton, "Layer Normalization" (2016), supplementary
      material, the LSTM.

    Deviations: the biases of the two normalisations in z_t are left out, for b does
      the same.
    """

    units: int

    @linen.compact
    def __call__(self, x: Array) -> Array:
        width = 4 * self.units
        start, ones = linen.initializers.lecun_normal(), linen.initializers.ones
        kernel = self.param("kernel", start, (x.shape[-1], width))
        recurrent = self.param("recurrent", _orthogonal_gates, (self.units, width))
        bias = self.param("bias", _forget_one, (width,))
        driven = self.param("kernel_scale", ones, (width,))
        again = self.param("recurrent_scale", ones, (width,))
        scale = self.param("cell_scale", ones, (self.units,))
        shift = self.param("cell_bias", linen.initializers.zeros, (self.units,))

        def step(carry: tuple[Array, Array], drive: Array) -> tuple:
            h, c = carry
            z = drive + again[None] * _norm(h @ recurrent)
            c, (_, _, _, o, _) = _cell(z, c)
            h = o * jnp.tanh(scale[None] * _norm(c) + shift[None])
            return (h, c), h

        drive = driven[None, None] * _norm(x @ kernel) + bias[None, None]
        zeros = jnp.zeros((x.shape[0], self.units), drive.dtype)
        made: Array = lax.scan(step, (zeros, zeros), jnp.swapaxes(drive, 0, 1))[1]
        return jnp.swapaxes(made, 0, 1)


def _norm(x: Array) -> Array:
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(x * x, axis=-1, keepdims=True)
    return x * lax.rsqrt(variance + _EPSILON)


def step(params: dict[str, Array], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """One step of an ``LSTM`` of these parameters, [batch, ...] -> h and c after it."""
    z = x @ params["kernel"] + h @ params["recurrent"] + params["bias"][None]
    c, (_, _, _, o, bounded) = _cell(z, c)
    return o * bounded, c


def _cell(z: Array, c: Array) -> tuple[Array, tuple[Array, ...]]:
    """c after a step whose gates are z, and i, f, g, o, tanh(c) of it."""
    i, f, g, o = jnp.split(z, 4, axis=-1)
    i, f, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o)
    g = jnp.tanh(g)
    c = f * c + i * g
    return c, (i, f, g, o, jnp.tanh(c))


@jax.custom_vjp
def recur(drive: Array, recurrent: Array) -> Array:
    """The recurrence z_t = drive_t + h_{t-1} U from h = c = 0.

    The gradient is written by hand because automatic differentiation of the scan adds
    to a [units, 4 units] gradient of U at every step. Here the backward scan only
    makes the gradients of z_t, and that of U is one matrix product over all steps:
    two to three times faster on a CPU. Reverse mode only.

    Args:
      drive: [time, batch, 4 units].
      recurrent: U, [units, 4 units].

    Returns:
      h, [time, batch, units].
    """
    return _forward(drive, recurrent)[0]


def _forward(drive: Array, recurrent: Array) -> tuple[Array, tuple]:
    def step(carry: tuple[Array, Array], driven: Array) -> tuple:
        h, c = carry
        new_c, (i, f, g, o, bounded) = _cell(driven + h @ recurrent, c)
        new_h = o * bounded
        return (new_h, new_c), (new_h, (h, c, i, f, g, o, bounded))

    zeros = jnp.zeros((drive.shape[1], recurrent.shape[0]), drive.dtype)
    made: tuple[Array, tuple] = lax.scan(step, (zeros, zeros), drive)[1]
    return made[0], (recurrent, made[1])


def _backward(residuals: tuple, grads: Array) -> tuple[Array, Array]:
    # With t = tanh(c_t), dh and dc the gradients of h_t and c_t from all that follows:
    #   dc  = dc + dh o (1 - t^2)
    #   dz  = [dc g i (1 - i), dc c_{t-1} f (1 - f), dc i (1 - g^2), dh t o (1 - o)]
    #   dc_{t-1} = dc f,  dh_{t-1} = dz U',  dU = sum_t h_{t-1}' dz_t,  d drive_t = dz_t
    recurrent, kept = residuals
    transposed = recurrent.T

    def step(carry: tuple[Array, Array], reached: tuple) -> tuple:
        dh, dc = carry
        grad, (_, c, i, f, g, o, bounded) = reached
        dh = dh + grad
        dc = dc + dh * o * (1 - bounded * bounded)
        gates = (
            dc * g * i * (1 - i),
            dc * c * f * (1 - f),
            dc * i * (1 - g * g),
            dh * bounded * o * (1 - o),
        )
        dz = jnp.concatenate(gates, axis=-1)
        return (dz @ transposed, dc * f), dz

    before = kept[0]
    zeros = jnp.zeros_like(before[0])
    dz: Array = lax.scan(step, (zeros, zeros), (grads, kept), reverse=True)[1]
    return dz, jnp.einsum("tbu,tbz->uz", before, dz)


recur.defvjp(_forward, _backward)


def _orthogonal_gates(key: Key, shape: tuple[int, int]) -> Array:
    draw = linen.initializers.orthogonal()
    square = (shape[0], shape[0])
    gates = [draw(k, square, jnp.float32) for k in jax.random.split(key, 4)]
    return jnp.concatenate(gates, axis=-1)


def _forget_one(key: Key, shape: tuple[int]) -> Array:
    units = shape[0] // 4
    return jnp.zeros(shape, jnp.float32).at[units : 2 * units].set(1)
