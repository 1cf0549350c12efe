"""Words: 32 bits for each symbol, as programs write indices that do not count bits."""

from __future__ import annotations

import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits
from fedjax_compress.wire.field import Field, count

WIDTH = 32


@register_code("words")
def words() -> Code:
    """32 bits a symbol, whatever the alphabet."""

    def lengths(field: Field) -> int | Array:
        return WIDTH * count(field)

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        return to_bits(symbols, WIDTH)

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        symbols = from_bits(reader.take(WIDTH * n), WIDTH)
        if n and symbols.max() >= alphabet:
            raise WireError(f"symbol {symbols.max()} in an alphabet of {alphabet}")
        return symbols

    return Code(lengths, encode, decode, largest=2**WIDTH)
