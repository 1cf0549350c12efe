"""Gradient Dropping: what lies below a quantile of the magnitudes waits."""

from __future__ import annotations

import math

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.sparse_fields import (
    Indices,
    flat_magnitudes,
    strided,
    values,
    with_residual,
)
from fedjax_compress.compress.stages import quotient
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.ranking import INFINITE, kth_largest
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Side, Stage

_MOST_BITS = 8
LEAST = 1000
"""Elements of a sample, at least; arrays of fewer are looked at in full."""


@register("stage")
def gradient_dropping(
    rate: float = 0.99,
    sample: float = 0.001,
    indices: Indices = "fixed",
    bits: int = 32,
) -> Stage:
    """Gradient Dropping: the accumulated update above a quantile of its magnitudes.

    P = e + x; T = the floor(rate m)-th smallest of |P| in a sample of m elements;
    C_i = P_i where |P_i| > T, else 0; e' = P - C, which is zero where it was sent. With
    sample 1 and unlike magnitudes, n - floor(rate n) elements are sent. Elements equal
    to T wait: of a constant array nothing is ever sent, unless floor(rate n) = 0.

    Used on leaves the threshold is local, used ``on_vector`` it is global, which needs
    layers of similar scale. (The paper's layer normalisation is a part of the model,
    not of the compression: choose a model that has it.)

    With fewer ``bits`` b, values that are sent are rounded: those of each sign fall
    into 2^(b - 1) cells of equal width between the least and the largest magnitude of
    that sign, and each arrives as the mean of its cell. What rounding leaves out is
    kept in e', too.

    What travels: the number of elements sent in ceil(log2(n + 1)) bits, their
    positions, ceil(log2 n) bits each when fixed, and their values, 32 bits each (16 for
    arrays of 16 bits), or b bits each and 2^b means of 32 bits.

    State: the residual, float32, as large as the array. No error feedback around it.

    Args:
      rate: share of elements that wait, 0 to below 1.
      sample: share of elements that T is estimated from, every s-th from a random
        start; at least 1000 elements, or all. 1 is exact.
      indices: code of the positions.
      bits: of a value that is sent: 1 to 8, or 32 for values as they are.

    Raises:
      InputError: rate, sample or bits out of range.

    Claims: none, since what is sent depends on the past.

    Reference: Aji and Heafield, Sparse communication for distributed gradient descent,
    EMNLP 2017, algorithm 1.
    Deviation: zeros are not sent, where T = 0. The paper rounds to 1 and 2 bits; how,
    is not confirmed: the cells are ours.
    """
    if not 0 <= rate < 1:
        raise InputError(f"rate must be 0 to below 1, not {rate}")
    if not 0 < sample <= 1:
        raise InputError(f"sample must be above 0 and at most 1, not {sample}")
    if bits != 32 and not 1 <= bits <= _MOST_BITS:
        raise InputError(
            f"bits must be 1 to {_MOST_BITS}, or 32 for values as they are, not {bits}"
        )

    def encode(due, array, keys):
        size = flat_magnitudes(due)
        threshold = _quantile(strided(size, sample, LEAST, keys.private), rate)
        # What is not finite is sent, so that a broken update does not hide.
        mask = (size > threshold) | (size == INFINITE)
        mask = mask.reshape(due.shape)
        if bits == 32:
            return {"values": values(due, mask, array.dtype, indices)}
        return _rounded(due, mask & (due != 0), bits, indices)

    def decode(carrier, side, shared):
        symbols = side["values"].symbols
        if bits == 32:
            return symbols.astype(jnp.float32)
        means = side["means"].symbols
        # A broken update arrives as NaN as a whole, for its means are.
        nothing = jnp.sum(means - means)
        table = jnp.concatenate([nothing[None], means])
        return table[symbols.astype(jnp.int32)]

    return with_residual(encode, decode)


def _rounded(due: Array, mask: Array, bits: int, indices: Indices) -> Side:
    """The elements under the mask as numbers of cells, 1 to 2^bits, and their means.

    Cells of positive elements come first, each half from the least magnitude on.
    """
    half = 2 ** (bits - 1)
    size = jnp.abs(due)
    symbols = jnp.zeros(due.shape, jnp.int32)
    for first, side in ((1, mask & (due > 0)), (1 + half, mask & ~(due > 0))):
        least = jnp.min(jnp.where(side, size, jnp.inf))
        width = jnp.max(jnp.where(side, size, 0.0)) - least
        cell = jnp.floor(quotient(size - least, width) * half).astype(jnp.int32)
        symbols = jnp.where(side, first + jnp.clip(cell, 0, half - 1), symbols)
    number = jnp.zeros(2 * half + 1, jnp.float32).at[symbols].add(1.0)
    total = jnp.zeros(2 * half + 1, jnp.float32).at[symbols].add(due)
    means = total[1:] / jnp.maximum(number[1:], 1.0)
    symbols = symbols.astype(wire.smallest(2 * half + 1))
    return {
        "values": wire.Field(symbols, 2 * half + 1, f"sparse_{indices}"),
        "means": wire.raw(means, "means"),
    }


def _quantile(size: Array, rate: float) -> Array:
    """The floor(rate m)-th smallest of patterns [m]; 0 where that is the 0-th."""
    dropped = math.floor(round(rate * size.size, 6))
    if dropped == 0:
        return jnp.zeros((), jnp.int32)
    return kth_largest(size, size.size - dropped + 1)
