"""Sparse fields by index: minimal width, 32-bit words, and a bitmap."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fedjax_compress.numerics.bitset import marked
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits, width
from fedjax_compress.wire.field import Field, count
from fedjax_compress.wire.sparse import (
    Positions,
    bitset,
    check_positions,
    check_size,
    join,
    read_count,
    read_values,
    sparse,
    spread,
    times,
    value_width,
    write_count,
    write_values,
)

WORD = 32


def _indices(bits_for) -> Positions:
    """Increasing indices, each in bits_for(n) bits."""

    def lengths(words: Array, k: Array, n: int) -> list[Array]:
        return [times(k, bits_for(n))]

    def encode(positions: np.ndarray, n: int) -> np.ndarray:
        return to_bits(positions.astype(np.uint64), bits_for(n))

    def decode(reader: BitReader, k: int, n: int) -> np.ndarray:
        bits = bits_for(n)
        if bits == 0:
            return np.arange(k, dtype=np.int64)
        return check_positions(from_bits(reader.take(k * bits), bits), n)

    return Positions(lengths, encode, decode)


@register_code("sparse_fixed")
def sparse_fixed() -> Code:
    """Each position in ceil(log2 n) bits; see ``wire.sparse`` for the rest."""
    return sparse(_indices(width))


@register_code("sparse_words")
def sparse_words() -> Code:
    """Each position in a word of 32 bits; of three symbols, the sign in that word.

    With three symbols the word is 2 * position + symbol - 1: 31 bits of index, then one
    that says which of the two values it is (Strom 2015). Otherwise the words with the
    positions come first, the values after them. The count is in front in both cases.
    """
    plain = sparse(_indices(lambda n: WORD))

    def lengths(field: Field) -> int | Array:
        n = check_size(count(field))
        if field.alphabet != 3 or n == 0:
            return plain.lengths(field)
        head = jnp.full(1, width(n + 1), jnp.int32)
        return join(head, times(marked(bitset(field)), WORD))

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        if alphabet != 3:
            return plain.encode(symbols, alphabet)
        chosen = np.flatnonzero(symbols)
        words = 2 * chosen + symbols[chosen].astype(np.int64) - 1
        count_bits = write_count(chosen.size, check_size(symbols.size))
        return np.concatenate([count_bits, to_bits(words.astype(np.uint64), WORD)])

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        if alphabet != 3:
            return plain.decode(reader, n, alphabet)
        k = read_count(reader, check_size(n))
        words = from_bits(reader.take(k * WORD), WORD).astype(np.int64)
        chosen = check_positions(words >> 1, n)
        return spread(chosen, (words & 1) + 1, n, alphabet)

    return Code(lengths, encode, decode)


@register_code("sparse_bitmask")
def sparse_bitmask() -> Code:
    """A bit for every element, set where it is sent; then the values; no count."""

    def lengths(field: Field) -> int | Array:
        n, bits = check_size(count(field)), value_width(field.alphabet)
        if n == 0 or bits == 0:
            return n
        head = jnp.full(1, n, jnp.int32)
        return join(head, times(marked(bitset(field)), bits))

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        mask = (symbols != 0).astype(np.uint8)
        return np.concatenate([mask, write_values(symbols[mask == 1], alphabet)])

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        chosen = np.flatnonzero(reader.take(n))
        values = read_values(reader, chosen.size, alphabet)
        return spread(chosen, values, n, alphabet)

    return Code(lengths, encode, decode)
