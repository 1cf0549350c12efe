"""Strom's method: whatever exceeds a fixed threshold is sent as that threshold."""

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
from fedjax_compress.compress.stages import as_sent, nan_unless_finite
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Stage


@register("stage")
def strom(threshold: float, indices: Indices = "words") -> Stage:
    """Strom: +-threshold where the accumulated update exceeds it; the rest waits.

    P = e + x; C_i = threshold where P_i > threshold, -threshold where
    P_i < -threshold, else 0; e' = P - C. At most one threshold an element and round,
    however large P_i is: with |x_i| <= threshold always, |e_i| <= threshold too; with
    larger updates the residual can grow without bound. It is never set to zero.

    What travels: the number k of elements sent in ceil(log2(n + 1)) bits; k words of
    32 bits, 31 for the position and 1 for the sign, or k positions in another code
    and k bits; the threshold, 32 bits, as NaN where P has an element that is not
    finite.

    State: the residual, float32, as large as the array. No error feedback around it.

    Args:
      threshold: above 0, in units of the update. It must be tuned; rounded to the
        dtype of the array.
      indices: code of the positions.

    Raises:
      InputError: threshold out of range.

    Claims: none. Biased, and no contraction: what is far above the threshold stays.

    Reference: Strom, Scalable distributed DNN training using commodity GPU cloud
    computing, Interspeech 2015.
    Deviation: the threshold travels with the message.
    """
    if not (threshold > 0 and math.isfinite(threshold)):
        raise InputError(f"threshold must be above 0, not {threshold}")

    def encode(due, array, keys):
        tau = as_sent(jnp.float32(threshold), array.dtype)
        scale = nan_unless_finite(tau[None], due)
        field = signs(due > tau, due < -tau, indices)
        return {"scales": wire.raw(scale, "scales"), "symbols": field}

    def decode(carrier, side, shared):
        tau = side["scales"].symbols[0]
        return from_signs(side["symbols"], tau, -tau)

    return with_residual(encode, decode)
