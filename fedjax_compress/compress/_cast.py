"""Rounding to a shorter float type."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from fedjax_compress.compress.stages import as_sent, stateless
from fedjax_compress.registry import register
from fedjax_compress.typing import Claims, Stage


@register("stage")
def cast(dtype: Literal["float16", "bfloat16"] = "float16") -> Stage:
    """Rounding to a 16-bit float, to the nearest.

    C(x) = round(clip(x, -m, m)), m the largest finite number of the type: finite
    numbers stay finite, infinities and NaN stay what they are.

    What travels: the array, 16 n bits.

    Args:
      dtype: float16 (11 significant bits, up to 65504; below 6e-5 with less
        precision, below 3e-8 nothing) or bfloat16 (8 significant bits, the range of
        float32).

    Claims: elementwise; bfloat16 is a contraction with alpha = 1 - 2**-16 on normal
    numbers, float16 is not, because of its range.
    """
    target = jnp.dtype(dtype)

    def encode(array, keys):
        return as_sent(array.astype(jnp.float32), target).astype(target), ()

    def decode(carrier, side, shared):
        return carrier.astype(jnp.float32)

    alpha = (lambda n: 1 - 2.0**-16) if dtype == "bfloat16" else None
    return stateless(encode, decode, Claims(alpha=alpha, elementwise=True))
