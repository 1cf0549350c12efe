"""Sparse ternary compression: the largest elements, all with one magnitude."""

from __future__ import annotations

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.sparse_fields import (
    Indices,
    flat_magnitudes,
    from_signs,
    signs,
)
from fedjax_compress.compress.stages import (
    as_sent,
    check_fraction,
    kept,
    nan_unless_finite,
    stateless,
)
from fedjax_compress.numerics.ranking import largest
from fedjax_compress.registry import register
from fedjax_compress.typing import Claims, Stage


@register("stage")
def stc(fraction: float, indices: Indices = "golomb") -> Stage:
    """Sparse ternary compression: top-k, sent as signs times their mean magnitude.

    C(x)_i = mu sign(x_i) where |x_i| is among the k = max(1, ceil(fraction n)) largest
    (the first of equals), else 0; mu is the mean magnitude of the elements sent. Zeros
    are not sent, even if fewer than k are left.

    The stage keeps nothing. ``error_feedback(stc(0.01))`` is what a client of the paper
    does; the paper has the same at the server, for the downlink.

    What travels: the number of elements sent in ceil(log2(n + 1)) bits, their
    positions, a bit of sign each; mu, 32 bits.

    Args:
      fraction: share of elements kept, above 0, at most 1; the paper takes 1/400.
      indices: code of the positions.

    Raises:
      InputError: fraction out of range.

    Claims: elementwise; contraction with alpha = min(k / n, 1 / k). What arrives is a
    projection: the error is ||x||**2 - s**2 / k with s the sum of the k magnitudes. For
    a given s, and t the smallest of them, ||x||**2 is largest where k - 1 of them are
    t, one is A t = s - (k - 1) t, and all others t: s**2 / (k ||x||**2) >=
    (A + k - 1)**2 / (k (A**2 + n - 1)), which rises and then falls in A: least at
    A = 1, k / n, or for A without bound, 1 / k.

    Reference: Sattler et al., Robust and communication-efficient federated learning
    from non-i.i.d. data, 2019, algorithm 1.
    """
    check_fraction(fraction)

    def encode(array, keys):
        size = flat_magnitudes(array)
        sent = largest(size, kept(fraction, size.size)) & (size > 0)
        sent = sent.reshape(array.shape)
        x = array.astype(jnp.float32)
        count = jnp.maximum(jnp.sum(sent.astype(jnp.int32)), 1)
        mu = jnp.sum(jnp.where(sent, jnp.abs(x) / count.astype(jnp.float32), 0))
        mu = nan_unless_finite(as_sent(mu[None], array.dtype), x)
        field = signs(sent & (x > 0), sent & (x < 0), indices)
        return None, {"scales": wire.raw(mu, "scales"), "symbols": field}

    def decode(carrier, side, shared):
        mu = side["scales"].symbols[0]
        return from_signs(side["symbols"], mu, -mu)

    def alpha(n: int) -> float:
        return min(kept(fraction, n) / n, 1 / kept(fraction, n))

    return stateless(encode, decode, Claims(alpha=alpha, elementwise=True))
