"""Fixed width: every symbol in the same number of bits, most significant bit first."""

from __future__ import annotations

import numpy as np

from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.field import Field, count


def width(alphabet: int) -> int:
    """ceil(log2(alphabet)), exactly: the bits that tell ``alphabet`` symbols apart."""
    return (alphabet - 1).bit_length()


def to_bits(words: np.ndarray, bits: int) -> np.ndarray:
    """The lowest ``bits`` bits of unsigned words [n], as uint8 [n * bits]."""
    size = next(s for s in (1, 2, 4, 8) if 8 * s >= bits)
    big_endian = words.astype(f">u{size}")
    table = np.unpackbits(big_endian.view(np.uint8).reshape(words.size, size), axis=1)
    return table[:, 8 * size - bits :].reshape(-1)


def from_bits(bits: np.ndarray, width: int) -> np.ndarray:
    """The unsigned words [n] written as ``width`` bits each; inverse of ``to_bits``."""
    size = next(s for s in (1, 2, 4, 8) if 8 * s >= width)
    rows = bits.size // width
    table = np.zeros((rows, 8 * size), np.uint8)
    table[:, 8 * size - width :] = bits.reshape(rows, width)
    words = np.packbits(table, axis=1).view(f">u{size}").reshape(rows)
    return words.astype(f"u{size}")


@register_code("fixed")
def fixed() -> Code:
    """ceil(log2(alphabet)) bits a symbol; an alphabet of one symbol costs nothing."""

    def lengths(field: Field) -> int | Array:
        return count(field) * width(field.alphabet)

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        return to_bits(symbols, width(alphabet))

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        bits = width(alphabet)
        if bits == 0:
            return np.zeros(n, np.uint8)
        return from_bits(reader.take(n * bits), bits)

    return Code(lengths, encode, decode, symbolwise=True)
