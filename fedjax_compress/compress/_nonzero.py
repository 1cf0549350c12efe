"""Values other than zero, with their positions."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import stateless
from fedjax_compress.numerics.ranking import magnitudes
from fedjax_compress.registry import register
from fedjax_compress.typing import Claims, Stage


@register("stage")
def nonzero(
    code: Literal["best", "golomb", "fixed", "words", "bitmask", "runs"] = "best",
) -> Stage:
    """Only what is not zero travels, with its positions: pruned models, sparse updates.

    C(x) = x; but -0.0, which a product with a mask leaves, arrives as 0.0. It pays from
    a few percent of zeros on, and needs no mask that the other end knows.

    What travels: the number k of elements that are not zero in ceil(log2(n + 1)) bits,
    their positions, and their values as they are in memory, 32 bits each for float32.
    No number with bitmask, whose n bits tell it. With best 2 bits more, which say
    which code it is.

    Args:
      code: of the positions; best is the shortest for the array at hand.

    Claims: elementwise, linear, unbiased with omega = 0; but not lossless, which is
    promised bit for bit, because of -0.0.
    """

    def encode(array, keys):
        # Not compared as floats, which takes subnormals for zero.
        values = jnp.where(magnitudes(array) != 0, array, 0)
        alphabet = 2 ** (8 * array.dtype.itemsize)
        return None, {"values": wire.Field(values, alphabet, f"sparse_{code}")}

    def decode(carrier, side, shared):
        return side["values"].symbols

    claims = Claims(
        unbiased=True,
        omega=lambda n: 0.0,
        alpha=lambda n: 1.0,
        linear=True,
        elementwise=True,
    )
    return stateless(encode, decode, claims)
