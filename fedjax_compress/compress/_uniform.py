"""Stochastic quantization to k evenly spaced levels between minimum and maximum."""

from __future__ import annotations

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import (
    nan_unless_finite,
    round_up_or_down,
    stateless,
)
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Stage

LARGEST_BITS = 16


@register("stage")
def uniform(
    bits: int = 8,
    levels: int = 0,
    code: wire.SymbolCode = "fixed",
) -> Stage:
    """Stochastic quantization to k even levels between minimum and maximum.

    With lo, hi the extremes of the array and t = (x - lo) / (hi - lo): the symbol is
    j = floor(t (k - 1)) or j + 1, at random so that E[C(x)] = x; decoded as
    lo (1 - j / (k - 1)) + hi j / (k - 1). Both extremes and constant arrays are exact
    (numbers below 1e-38 count as zero, as in all float32 arithmetic of XLA). If an
    element is not finite, lo and hi arrive as NaN, and so does the array.

    What travels: n symbols of k, n ceil(log2 k) bits when fixed; lo and hi, 64 bits.

    Args:
      bits: k = 2**bits levels, 1 to 16.
      levels: k itself, 2 to 65536, instead of bits; 0 means 2**bits.
      code: fixed width; radix, several symbols to a word, for k not a power of two;
        huffman or arithmetic, close to the entropy of the levels; best, the shortest;
        gamma or elias, short words for levels close to the minimum.

    Raises:
      InputError: bits or levels out of range, or more levels than the code takes.

    Claims: elementwise, unbiased, omega(n) = n / (2 (k - 1)**2).

    Reference: probabilistic quantization of Suresh et al. 2017 and Konecny et al. 2016.
    Deviation: k counts levels, not the intervals between them.
    """
    if not 1 <= bits <= LARGEST_BITS:
        raise InputError(f"bits must be 1 to {LARGEST_BITS}, not {bits}")
    if levels and not 2 <= levels <= 2**LARGEST_BITS:
        raise InputError(f"levels must be 2 to {2**LARGEST_BITS}, or 0, not {levels}")
    k = levels or 2**bits
    wire.check_code(code, k)

    def encode(array, keys):
        array = array.astype(jnp.float32)
        lo, hi = jnp.min(array), jnp.max(array)
        position = _share(array, lo, hi) * (k - 1)
        symbols = round_up_or_down(position, keys.private).astype(jnp.int32)
        scales = nan_unless_finite(jnp.stack([lo, hi]), array)
        symbols = jnp.clip(symbols, 0, k - 1).astype(wire.smallest(k))
        field = wire.Field(symbols, k, code)
        return None, {"scales": wire.raw(scales, "scales"), "symbols": field}

    def decode(carrier, side, shared):
        lo, hi = side["scales"].symbols
        share = side["symbols"].symbols.astype(jnp.int32).astype(jnp.float32) / (k - 1)
        return lo * (1 - share) + hi * share

    claims = Claims(
        unbiased=True, omega=lambda n: n / (2 * (k - 1) ** 2), elementwise=True
    )
    return stateless(encode, decode, claims)


def _share(array: Array, lo: Array, hi: Array) -> Array:
    """(x - lo) / (hi - lo), without overflow of the range; 0 where the range is 0."""
    huge = jnp.maximum(jnp.abs(lo), jnp.abs(hi)) > 1e37
    scale = jnp.where(huge, 0.25, 1.0)
    span = hi * scale - lo * scale
    return jnp.where(
        span > 0, (array * scale - lo * scale) / jnp.where(span > 0, span, 1), 0
    )
