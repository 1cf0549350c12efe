"""Bitmap: one bit for every position, set where the index is in the list."""

from __future__ import annotations

import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.golomb import check_increasing
from fedjax_compress.wire.field import Field


@register_code("bitmask")
def bitmask() -> Code:
    """``alphabet`` bits for strictly increasing indices below the alphabet."""

    def lengths(field: Field) -> int | Array:
        return field.alphabet

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        bits = np.zeros(alphabet, np.uint8)
        bits[check_increasing(symbols, "bitmask")] = 1
        return bits

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        positions = np.flatnonzero(reader.take(alphabet))
        if positions.size != n:
            raise WireError(f"a bitmap with {positions.size} bits set, expected {n}")
        return positions.astype(np.uint64)

    return Code(lengths, encode, decode, increasing=True)
