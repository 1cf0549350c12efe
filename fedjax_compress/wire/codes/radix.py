"""Radix blocks: several symbols as the digits of one number."""

from __future__ import annotations

import functools

import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits, width
from fedjax_compress.wire.field import Field, count

LARGEST_WORD = 63


@functools.cache
def block(alphabet: int) -> int:
    """Symbols in a block: the number that costs the fewest bits a symbol.

    The block is read as a number below ``alphabet ** m`` and written in
    ``ceil(m log2(alphabet))`` bits, at most 63; among equals the smallest m. Powers of
    two need no blocks (m = 1); three symbols go 29 to a word of 46 bits, 1.5862 bits
    each where log2(3) is 1.5850.
    """
    best, m = 1, 1
    while alphabet > 1 and width(alphabet**m) <= LARGEST_WORD:
        if width(alphabet**m) * best < width(alphabet**best) * m:
            best = m
        m += 1
    return best


def _encode_blocks(digits: np.ndarray, alphabet: int) -> np.ndarray:
    words = np.zeros(digits.shape[0], np.uint64)
    for column in digits.T:
        words = words * np.uint64(alphabet) + column.astype(np.uint64)
    return to_bits(words, width(alphabet ** digits.shape[1]))


def _decode_blocks(bits: np.ndarray, m: int, alphabet: int) -> np.ndarray:
    words = from_bits(bits, width(alphabet**m)).astype(np.uint64)
    digits = np.empty((words.size, m), np.uint64)
    for column in reversed(range(m)):
        words, digits[:, column] = np.divmod(words, np.uint64(alphabet))
    if words.any():
        raise WireError(f"a block that is no number of {m} digits below {alphabet}")
    return digits.reshape(-1)


@register_code("radix")
def radix() -> Code:
    """Blocks of m symbols in one word; the last, short block in its own width.

    Within a block the first symbol is the most significant digit.
    """

    def lengths(field: Field) -> int | Array:
        m = block(field.alphabet)
        full, rest = divmod(count(field), m)
        return full * width(field.alphabet**m) + width(field.alphabet**rest)

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        m = block(alphabet)
        cut = symbols.size - symbols.size % m
        parts = [_encode_blocks(symbols[:cut].reshape(-1, m), alphabet)]
        if cut < symbols.size:
            parts.append(_encode_blocks(symbols[None, cut:], alphabet))
        return np.concatenate(parts)

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        if alphabet == 1:
            return np.zeros(n, np.uint8)
        m = block(alphabet)
        full, rest = divmod(n, m)
        bits = reader.take(full * width(alphabet**m))
        parts = [_decode_blocks(bits, m, alphabet)]
        if rest:
            bits = reader.take(width(alphabet**rest))
            parts.append(_decode_blocks(bits, rest, alphabet))
        return np.concatenate(parts)

    return Code(lengths, encode, decode, symbolwise=True, largest=2**LARGEST_WORD)
