"""Gradient Dropping: what lies below a quantile of the magnitudes waits."""

from __future__ import annotations

import math

import jax.numpy as jnp

from fedjax_compress.compress.sparse_fields import (
    Indices,
    flat_magnitudes,
    strided,
    values,
    with_residual,
)
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.ranking import INFINITE, kth_largest
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Stage

LEAST = 1000
"""Elements of a sample, at least; arrays of fewer are looked at in full."""


@register("stage")
def gradient_dropping(
    rate: float = 0.99, sample: float = 0.001, indices: Indices = "fixed"
) -> Stage:
    """Gradient Dropping: the accumulated update above a quantile of its magnitudes.

    P = e + x; T = the floor(rate m)-th smallest of |P| in a sample of m elements;
    C_i = P_i where |P_i| > T, else 0; e' = P - C, which is zero where it was sent. With
    sample 1 and unlike magnitudes, n - floor(rate n) elements are sent. Elements equal
    to T wait: of a constant array nothing is ever sent, unless floor(rate n) = 0.

    Used on leaves the threshold is local, used ``on_vector`` it is global, which needs
    layers of similar scale. (The paper's layer normalisation is a part of the model,
    not of the compression: choose a model that has it.)

    What travels: the number of elements sent in ceil(log2(n + 1)) bits, their
    positions, ceil(log2 n) bits each when fixed, and their values, 32 bits each (16 for
    arrays of 16 bits).

    State: the residual, float32, as large as the array. No error feedback around it.

    Args:
      rate: share of elements that wait, 0 to below 1.
      sample: share of elements that T is estimated from, every s-th from a random
        start; at least 1000 elements, or all. 1 is exact.
      indices: code of the positions.

    Raises:
      InputError: rate or sample out of range.

    Claims: none, since what is sent depends on the past.

    Reference: Aji and Heafield, Sparse communication for distributed gradient descent,
    EMNLP 2017, algorithm 1.
    Deviation: zeros are not sent, where T = 0.
    """
    if not 0 <= rate < 1:
        raise InputError(f"rate must be 0 to below 1, not {rate}")
    if not 0 < sample <= 1:
        raise InputError(f"sample must be above 0 and at most 1, not {sample}")

    def encode(due, array, keys):
        size = flat_magnitudes(due)
        threshold = _quantile(strided(size, sample, LEAST, keys.private), rate)
        # What is not finite is sent, so that a broken update does not hide.
        mask = (size > threshold) | (size == INFINITE)
        return {"values": values(due, mask.reshape(due.shape), array.dtype, indices)}

    def decode(carrier, side, shared):
        return side["values"].symbols.astype(jnp.float32)

    return with_residual(encode, decode)


def _quantile(size: Array, rate: float) -> Array:
    """The floor(rate m)-th smallest of patterns [m]; 0 where that is the 0-th."""
    dropped = math.floor(round(rate * size.size, 6))
    if dropped == 0:
        return jnp.zeros((), jnp.int32)
    return kth_largest(size, size.size - dropped + 1)
