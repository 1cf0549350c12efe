"""Dryden's method: a fixed share of either sign, each sent as its mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.sparse_fields import (
    Indices,
    flat_magnitudes,
    from_signs,
    signs,
    with_residual,
)
from fedjax_compress.compress.stages import as_sent, check_fraction, nan_unless_finite
from fedjax_compress.numerics.ranking import largest
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Stage


@register("stage")
def dryden(fraction: float, indices: Indices = "fixed") -> Stage:
    """Dryden: the largest positive and the smallest negative, each as its mean.

    P = e + x. Of the n+ positive elements the ceil(fraction n+) largest arrive as their
    mean mu+; of the n- negative ones the ceil(fraction n-) of largest magnitude as
    their mean mu-; all others as 0; e' = P - C. So the residual of those sent sums to
    zero. With fraction 1 it is 1-bit SGD with one pair of means for the array, but for
    elements that are zero.

    What travels: the number k of elements sent in ceil(log2(n + 1)) bits; k positions,
    k ceil(log2 n) bits when fixed, and k signs; mu+ and mu-, 64 bits.

    State: the residual, float32, as large as the array. No error feedback around it.

    Args:
      fraction: share of either sign that is sent, above 0, at most 1; the paper tries
        1/32 to 1/128.
      indices: code of the positions.

    Raises:
      InputError: fraction out of range.

    Claims: none, since what is sent depends on the past.

    Reference: Dryden et al., Communication quantization for data-parallel training of
    deep neural networks, MLHPC 2016.
    Deviation: thresholds and means are exact, not estimated from samples; of equal
    elements the first are sent.
    """
    check_fraction(fraction)

    def encode(due, array, keys):
        size = flat_magnitudes(due)
        flat = due.reshape(-1)
        sides = jnp.stack([jnp.where(flat > 0, size, 0), jnp.where(flat < 0, size, 0)])
        # One after the other: side by side, a pass over both is slower than two.
        sent, means = jax.lax.map(lambda side: _class(side, flat, fraction), sides)
        means = nan_unless_finite(as_sent(means, array.dtype), due)
        plus, minus = sent.reshape(2, *array.shape)
        field = signs(plus, minus, indices)
        return {"scales": wire.raw(means, "scales"), "symbols": field}

    def decode(carrier, side, shared):
        return from_signs(side["symbols"], *side["scales"].symbols)

    return with_residual(encode, decode)


def _class(size: Array, values: Array, fraction: float) -> tuple[Array, Array]:
    """Which elements of one sign are sent, and their mean.

    Args:
      size: patterns of the magnitudes, [n], 0 for the other sign.
      values: float32 [n].
      fraction: share that is sent.
    """
    available = jnp.sum((size > 0).astype(jnp.int32))
    # Products that exceed a whole number by float error count as that number.
    share = jnp.ceil(available.astype(jnp.float32) * fraction * (1 - 1e-6))
    k = jnp.minimum(share.astype(jnp.int32), available)
    sent = largest(size, k) & (size > 0)
    each = values / jnp.maximum(k, 1).astype(jnp.float32)
    return sent, jnp.sum(jnp.where(sent, each, 0))
