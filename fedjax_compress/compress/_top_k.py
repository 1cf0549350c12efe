"""The largest elements."""

from __future__ import annotations

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import check_fraction, kept, stateless
from fedjax_compress.numerics.ranking import magnitudes, positions_of_largest
from fedjax_compress.registry import register
from fedjax_compress.typing import Claims, Stage


@register("stage")
def top_k(fraction: float, indices: wire.IndexCode = "golomb") -> Stage:
    """The k = max(1, ceil(fraction n)) elements of largest magnitude, exactly.

    C(x)_i = x_i where |x_i| is among the k largest (the first of equals), else 0.
    The values are the carrier, in the order of their positions: a following stage
    compresses them. NaN counts as largest.

    What travels: k values (32 k bits if nothing follows), k increasing positions below
    n: k ceil(log2 n) bits when fixed, 32 k as words, n as bitmask, with golomb close to
    the information bound log2 C(n, k) and dependent on the data. Nothing for positions
    where k = n.

    Args:
      fraction: share of elements kept, above 0, at most 1.
      indices: code of the positions; best is the shortest.

    Raises:
      InputError: fraction out of range.

    Claims: contraction with alpha = k / n; lossless for fraction = 1. Biased: use it
    under error feedback.
    """
    check_fraction(fraction)

    def encode(array, keys):
        shape, vector = wire.shape_of(array), array.reshape(-1)
        n, k = vector.size, kept(fraction, vector.size)
        if k == n:
            return vector, {"shape": shape}
        positions = positions_of_largest(magnitudes(vector), k)
        field = wire.Field(positions, n, indices, "indices")
        return vector[positions], {"shape": shape, "indices": field}

    def decode(carrier, side, shared):
        shape = side["shape"].shape
        if "indices" not in side:
            return carrier.reshape(shape)
        zeros = jnp.zeros(side["indices"].alphabet, carrier.dtype)
        full = zeros.at[side["indices"].symbols].set(
            carrier, indices_are_sorted=True, unique_indices=True
        )
        return full.reshape(shape)

    everything = fraction == 1
    claims = Claims(
        unbiased=everything,
        omega=(lambda n: 0.0) if everything else None,
        alpha=lambda n: kept(fraction, n) / n,
        lossless=everything,
    )
    return stateless(encode, decode, claims)
