"""DoReFa's quantizer of gradients: an even grid about zero, with dither."""

from __future__ import annotations

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import (
    nan_unless_finite,
    relative,
    round_up_or_down,
    stateless,
)
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Claims, Stage

LARGEST_BITS = 16


@register("stage")
def dorefa_gradient(bits: int = 8, code: wire.SymbolCode = "fixed") -> Stage:
    """DoReFa-Net's gradient quantizer: a dithered even grid from -max|x| to max|x|.

    With m = max|x| and K = 2**k - 1: C(x) = 2 m (q(x / 2m + 1/2 + u / K) - 1/2), where
    q(r) = round(K r) / K and u is uniform in -1/2 .. 1/2. That is rounding up or down
    at random, so that E[C(x)] = x. Zero is not on the grid; an array of zeros is exact.
    If an element is not finite, all arrive as NaN.

    What travels: n symbols of k bits when fixed; m, 32 bits.

    Args:
      bits: k, 1 to 16.
      code: of the symbols, see ``uniform``; most are about the middle, which huffman
        and arithmetic make short.

    Raises:
      InputError: bits out of range, or more symbols than the code takes.

    Claims: elementwise, unbiased, omega(n) = n / (2**k - 1)**2.

    Reference: Zhou et al. 2016, equation 12.
    Deviations: the paper quantizes the gradients that flow back into layers, with one m
    for each example; here it is the update that travels, with one m for each array.
    Weights and activations are quantized in training, which is no matter of messages.
    """
    if not 1 <= bits <= LARGEST_BITS:
        raise InputError(f"bits must be 1 to {LARGEST_BITS}, not {bits}")
    steps = 2**bits - 1
    wire.check_code(code, steps + 1)

    def encode(array, keys):
        largest, share = relative(array)
        position = (share * 0.5 + 0.5) * steps
        symbols = round_up_or_down(position, keys.private).astype(jnp.int32)
        symbols = jnp.clip(symbols, 0, steps).astype(wire.smallest(steps + 1))
        return None, {
            "scales": wire.raw(nan_unless_finite(largest, array), "scales"),
            "symbols": wire.Field(symbols, steps + 1, code),
        }

    def decode(carrier, side, shared):
        symbols = side["symbols"].symbols.astype(jnp.int32)
        level = (2 * symbols - steps).astype(jnp.float32) / steps
        return side["scales"].symbols * level

    claims = Claims(unbiased=True, omega=lambda n: n / steps**2, elementwise=True)
    return stateless(encode, decode, claims)
