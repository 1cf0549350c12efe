"""AdaComp: in each bin, what the newest update could lift above the bin's maximum."""

from __future__ import annotations

import math

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.sparse_fields import (
    Indices,
    from_signs,
    signs,
    with_residual,
)
from fedjax_compress.compress.stages import as_sent, flat, nan_unless_finite
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Stage


@register("stage")
def adacomp(bin: int = 50, factor: float = 2.0, indices: Indices = "golomb") -> Stage:
    """AdaComp: signs of the elements near the maximum of their bin, with one scale.

    G = R + x; H = G + (factor - 1) x; in each bin of consecutive elements
    gmax = max |G_i|; scale = mean of gmax over all bins. C_i = sign(G_i) scale where
    |H_i| >= gmax > 0, else 0; R' = G - C. The number of elements sent adapts itself.
    The scale may exceed |G_i|, so residuals can change their sign.

    What travels: the number k of elements sent in ceil(log2(n + 1)) bits, k positions,
    k signs, and the scale, 32 bits.

    State: the residual R, float32, as large as the array. No error feedback around it.

    Args:
      bin: elements in a bin, at least 1; the last may be shorter. The paper takes 50
        for convolutions, 500 for dense and recurrent layers.
      factor: weight of the newest update, at least 1.
      indices: code of the positions.

    Raises:
      InputError: bin or factor out of range.

    Claims: none. Biased, and the error depends on the past.

    Reference: Chen et al., AdaComp: adaptive residual gradient compression for
    data-parallel distributed training, AAAI 2018, algorithm 2.
    Deviation: positions in one code for the array, instead of 8 or 16 bits for an
    element with its place in the bin.
    """
    if bin < 1:
        raise InputError(f"bin must be at least 1, not {bin}")
    if not (factor >= 1 and math.isfinite(factor)):
        raise InputError(f"factor must be at least 1, not {factor}")

    def encode(due, array, keys):
        n = due.size
        count = -(-n // bin)
        reach = due + (factor - 1) * array.astype(jnp.float32)

        def rows(values):
            padded = jnp.pad(jnp.abs(flat(values)), (0, count * bin - n))
            return padded.reshape(count, bin)

        largest = jnp.max(rows(due), axis=1)
        scale = jnp.sum(largest / count)[None]
        scale = nan_unless_finite(as_sent(scale, array.dtype), due)
        sent = (rows(reach) >= largest[:, None]) & (largest > 0)[:, None]
        sent = sent.reshape(-1)[:n].reshape(due.shape)
        field = signs(sent & (due > 0), sent & (due < 0), indices)
        return {"scales": wire.raw(scale, "scales"), "symbols": field}

    def decode(carrier, side, shared):
        scale = side["scales"].symbols[0]
        return from_signs(side["symbols"], scale, -scale)

    return with_residual(encode, decode)
