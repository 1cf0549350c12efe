"""TernGrad: every element is minus the scale, zero, or the scale."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import nan_unless_finite, relative, stateless
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Stage

_CONSTANT = 1e-6
"""A standard deviation that, relative to the largest element, is rounding."""


@register("stage")
def terngrad(
    clip: float = 2.5,
    scaler: Literal["max", "sigma"] = "max",
    code: wire.SymbolCode = "radix",
) -> Stage:
    """TernGrad: stochastic levels -s, 0, s of a clipped array.

    g = x clipped to -c sigma .. c sigma, with sigma the standard deviation of all
    elements about their mean; s = max|g|; C(x)_i = s sign(g_i) with probability
    |g_i| / s, else 0. An array without spread is not clipped (a single element would
    never arrive otherwise). If an element is not finite, all arrive as NaN.

    What travels: n symbols of 3, in the order 0, +, -: 46 bits for 29 of them as radix,
    2 bits each as fixed, fewer by an entropy code where most are 0; s, 32 bits.

    Args:
      clip: c, in standard deviations; 0 for no clipping.
      scaler: max, s = max|g|; or sigma, s = c sigma, which is what the authors' code
        sends: the same where something is clipped, more variance where nothing is.
      code: of the symbols, see ``uniform``; zero_runs suits them, too.

    Raises:
      InputError: clip is negative or not finite; scaler sigma without clipping; an
        unknown code.

    Claims: elementwise; without clipping unbiased, omega(n) = (sqrt(n) - 1) / 2. With
    it C(x) is unbiased for g instead, and nothing is claimed about x.

    Reference: Wen et al. 2017, equations 1 to 3, layer-wise, with gradient clipping.
    Deviations: scaler sharing, where all workers take the largest s of them all, needs
    an exchange of s before anybody encodes. A message here depends on its sender only,
    so that each has its own s, which is unbiased as well and has less variance.
    """
    if not 0 <= clip < math.inf:
        raise InputError(f"clip must be finite and at least 0, not {clip}")
    if scaler == "sigma" and not clip:
        raise InputError("scaler sigma needs clipping; set clip above 0 or scaler max")
    wire.check_code(code, 3)

    def encode(array, keys):
        largest, share = relative(array)
        bound = _bound(share, clip)
        scale = bound if scaler == "sigma" else jnp.minimum(bound, jnp.max(abs(share)))
        size = jnp.minimum(jnp.abs(share), bound)
        draw = jax.random.uniform(keys.private, array.shape)
        some = draw * jnp.where(scale > 0, scale, 1) < size
        symbols = jnp.where(some, jnp.where(share < 0, 2, 1), 0).astype(jnp.uint8)
        scale = jnp.minimum(largest * scale, jnp.finfo(jnp.float32).max)
        scale = nan_unless_finite(scale, array)
        return None, {
            "scales": wire.raw(scale, "scales"),
            "symbols": wire.Field(symbols, 3, code),
        }

    def decode(carrier, side, shared):
        symbols = side["symbols"].symbols
        sign = (symbols == 1).astype(jnp.float32) - (symbols == 2).astype(jnp.float32)
        return side["scales"].symbols * sign

    claims = Claims(elementwise=True)
    if not clip:
        claims = claims._replace(unbiased=True, omega=lambda n: (n**0.5 - 1) / 2)
    return stateless(encode, decode, claims)


def _bound(share: Array, clip: float) -> Array:
    """c sigma of elements whose largest is 1; 1 where there is nothing to clip."""
    if not clip:
        return jnp.ones(())
    sigma = jnp.std(share)
    return jnp.where(sigma > _CONSTANT, clip * sigma, 1)
