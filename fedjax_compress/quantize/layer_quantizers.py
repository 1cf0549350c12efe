"""DoReFa's quantizers of activations and of the gradients that flow back."""

from __future__ import annotations

import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.models.taps import Tap, tapped
from fedjax_compress.quantize.weight_quantizers import PLAIN, round_through
from fedjax_compress.typing import Array, Key, Model

_NOISE = 0x51415402


def quantize_activations(x: Array, bits: int) -> Array:
    """round((2^k - 1) clip(x, 0, 1)) / (2^k - 1); the gradient is that of the clip.

    Args:
      x: any shape.
      bits: k; 32 clips only.
    """
    x = jnp.clip(x, 0.0, 1.0)
    if bits == PLAIN:
        return x
    steps = 2**bits - 1
    return round_through(x * steps) / steps


def quantize_gradient(x: Array, key: Key, bits: int) -> Array:
    """x itself; what flows back through it is rounded at random to k bits.

    f(g) = 2 m (q(g / 2m + 1/2 + u / (2^k - 1)) - 1/2), with m = max|g| of each example
    (the first axis) and u uniform in -1/2 .. 1/2; E[f(g)] = g.

    Args:
      x: [batch, ...].
      key: of u.
      bits: k.
    """
    return _noisy(x, jax.random.key_data(key), bits, jax.random.key_impl(key))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _noisy(x: Array, key: Array, bits: int, kind: Any) -> Array:
    return x


def _forward(x: Array, key: Array, bits: int, kind: Any) -> tuple[Array, Array]:
    return x, key


def _backward(bits: int, kind: str, key: Array, g: Array) -> tuple[Array, np.ndarray]:
    steps = 2**bits - 1
    top = jnp.max(jnp.abs(g), axis=tuple(range(1, g.ndim)), keepdims=True)
    share = jnp.where(top > 0, g / jnp.where(top > 0, 2 * top, 1), 0) + 0.5
    noise = jax.random.uniform(jax.random.wrap_key_data(key, impl=kind), g.shape) - 0.5
    level = jnp.clip(jnp.round(share * steps + noise), 0, steps) / steps
    found = jnp.where(top > 0, 2 * top * (level - 0.5), 0)
    return found.astype(g.dtype), np.zeros(key.shape, jax.dtypes.float0)


_noisy.defvjp(_forward, _backward)


def quantized_layers(
    model: Model, inner: list[str], last: str | None, activations: int, gradients: int
) -> Model:
    """The model with quantized activations and gradients about its inner layers.

    Args:
      model: made of flax.linen modules.
      inner: paths of the layers whose inputs and gradients are quantized.
      last: path of the layer whose input is clipped only; None for none.
      activations: bits of inputs; 32: neither clipped nor quantized.
      gradients: bits of what flows back into outputs; 32: not quantized.
    """

    def apply(params, columns, key):
        calls: dict[str, int] = {}

        def reads(path: str, x: Array) -> Array:
            if activations == PLAIN or path not in (*inner, last):
                return x
            return quantize_activations(x, PLAIN if path == last else activations)

        def makes(path: str, y: Array) -> Array:
            if gradients == PLAIN or key is None or path not in inner:
                return y
            # A layer that is called again draws again.
            calls[path] = calls.get(path, 0) + 1
            noise = jax.random.fold_in(key, _NOISE + calls[path])
            noise = jax.random.fold_in(noise, zlib.crc32(path.encode()))
            return quantize_gradient(y, noise, gradients)

        with tapped(Tap(reads, makes)):
            return model.apply(params, columns, key)

    cuts = model.cuts
    if cuts is not None:
        whole = cuts.narrow

        def narrow(counts: dict[str, int]) -> Model:
            return quantized_layers(whole(counts), inner, last, activations, gradients)

        cuts = cuts._replace(narrow=narrow)
    return model._replace(apply=apply, cuts=cuts, halves=None)
