"""Symbols that are all zero in a single bit, any others in fixed width behind it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits, width
from fedjax_compress.wire.field import Field, count, numbers

_MOST = 2**31 - 1
_PART = 2**24
"""Symbols that are counted in one number."""


@register_code("present")
def present() -> Code:
    """One bit; where it is 1, ceil(log2(alphabet)) bits a symbol follow.

    For what is sent once, and stands for nothing where it is zero. No symbols cost
    nothing.
    """

    def lengths(field: Field) -> int | Array:
        n, bits = count(field), width(field.alphabet)
        pieces = [min(_PART, n - i) * bits for i in range(0, n, _PART)]
        whole = jnp.asarray([1, *pieces], jnp.int32)
        if not pieces:
            return 0
        return jnp.where(jnp.any(numbers(field) != 0), whole, whole.at[1:].set(0))

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        if not symbols.any():
            return np.zeros(min(1, symbols.size), np.uint8)
        head = np.ones(1, np.uint8)
        return np.concatenate([head, to_bits(symbols, width(alphabet))])

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        bits = width(alphabet)
        if n > _MOST:
            raise WireError(f"{n} symbols, but at most {_MOST} can be sent so")
        if n == 0 or not reader.take(1)[0] or bits == 0:
            return np.zeros(n, np.uint8)
        return from_bits(reader.take(n * bits), bits)

    return Code(lengths, encode, decode)
