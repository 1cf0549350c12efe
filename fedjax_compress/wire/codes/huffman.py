"""Huffman: each symbol in a word whose length follows from how often it occurs."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError, WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits, width
from fedjax_compress.wire.field import Field, count, numbers
from fedjax_compress.wire.histogram import histogram
from fedjax_compress.wire.prefix import join, walk, windows

LARGEST = 256
"""Largest alphabet: the tree is built in the compiled program, merge by merge."""
MOST = 2**31 - 1
"""Most symbols, so that each can be counted in 32 bits."""
DEEPEST = 44
"""Longest word: a deeper tree needs more symbols than that (Fibonacci counts)."""
_DEPTH_BITS = 6
_NEVER = MOST


def word_lengths(counts: np.ndarray) -> np.ndarray:
    """The length of each symbol's word; 0 for symbols that do not occur.

    Merges the two lightest trees until one is left; among equals the one whose first
    symbol is smallest. The merged tree takes the place of the lighter. A symbol that
    is alone has length 0.
    """
    weight = np.where(counts > 0, counts, _NEVER).astype(np.int64)
    members = np.eye(counts.size, dtype=bool)
    lengths = np.zeros(counts.size, np.int64)
    for _ in range(int(np.count_nonzero(counts)) - 1):
        one = int(np.argmin(weight))
        first, weight[one] = weight[one], _NEVER
        two = int(np.argmin(weight))
        members[one] |= members[two]
        lengths += members[one]
        weight[one], weight[two] = first + weight[two], _NEVER
    return lengths


def _total_and_depth(counts: Array) -> tuple[Array, Array]:
    """Bits of all words, as parts, and the longest: ``word_lengths`` in the program."""
    alphabet = counts.size
    start = jnp.where(counts > 0, counts, _NEVER)

    def merge(i, carry):
        weight, depth, added = carry
        one = jnp.argmin(weight)
        first = weight[one]
        weight = weight.at[one].set(_NEVER)
        two = jnp.argmin(weight)
        second = weight[two]
        more = second < _NEVER
        both = first + jnp.where(more, second, 0)
        deeper = jnp.maximum(depth[one], depth[two]) + 1
        weight = weight.at[two].set(_NEVER).at[one].set(both)
        depth = depth.at[one].set(jnp.where(more, deeper, depth[one]))
        return weight, depth, added.at[i].set(jnp.where(more, both, 0))

    nothing = jnp.zeros(alphabet, jnp.int32)
    _, depth, added = jax.lax.fori_loop(
        0, alphabet - 1, merge, (start, nothing, nothing)
    )
    return added, jnp.max(depth)


def _starts(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symbols in the order of their words, and the words filled up to the longest.

    Canonical: shorter words first, equal lengths in the order of the symbols; each
    word is the one before plus 1, with zeros behind it as its length asks.
    """
    present = np.flatnonzero(lengths)
    order = present[np.argsort(lengths[present], kind="stable")]
    deepest = int(lengths.max())
    steps = np.uint64(1) << (deepest - lengths[order]).astype(np.uint64)
    return order, np.cumsum(steps) - steps


def _encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    if not symbols.size:
        return np.zeros(0, np.uint8)
    lengths = word_lengths(np.bincount(symbols, minlength=alphabet))
    deepest = int(lengths.max())
    head = to_bits(np.array([deepest], np.uint8), _DEPTH_BITS)
    if deepest == 0:
        return np.concatenate([head, to_bits(symbols[:1], width(alphabet))])
    table = to_bits(lengths.astype(np.uint64), width(deepest + 1))
    order, starts = _starts(lengths)
    words = np.zeros(alphabet, np.uint64)
    words[order] = starts >> (deepest - lengths[order]).astype(np.uint64)
    return np.concatenate([head, table, join(words[symbols], lengths[symbols])])


def _decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
    if n == 0:
        return np.zeros(0, np.uint8)
    if n > MOST:
        raise WireError(f"huffman takes up to {MOST} symbols, not {n}")
    deepest = int(from_bits(reader.take(_DEPTH_BITS), _DEPTH_BITS)[0])
    if deepest == 0:
        bits = reader.take(width(alphabet))
        symbol = from_bits(bits, bits.size)[0] if bits.size else 0
        if symbol >= alphabet:
            raise WireError(f"symbol {symbol} in an alphabet of {alphabet}")
        return np.full(n, symbol, np.uint8)
    if deepest > min(DEEPEST, alphabet - 1):
        raise WireError(f"Huffman words of {deepest} bits for {alphabet} symbols")
    each = width(deepest + 1)
    lengths = from_bits(reader.take(alphabet * each), each).astype(np.int64)
    full = sum(2 ** (deepest - int(x)) for x in lengths if 0 < x <= deepest)
    if lengths.max() != deepest or full != 2**deepest:
        raise WireError("the table of Huffman words is no complete code")
    return walk(reader, n, functools.partial(_everywhere, lengths), "huffman")


def _everywhere(lengths: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order, starts = _starts(lengths)
    window = windows(bits, int(lengths.max()))
    symbol = order[np.searchsorted(starts, window, side="right") - 1]
    following = np.arange(bits.size) + lengths[symbol]
    return symbol.astype(np.uint64), np.where(following <= bits.size, following, -1)


@register_code("huffman")
def huffman() -> Code:
    """Canonical Huffman code of the symbols' own histogram, which travels in front.

    Six bits: L, the length of the longest word. L = 0 means that all symbols are the
    same, and ceil(log2(alphabet)) bits say which. Otherwise the length of each symbol
    of the alphabet, 0 if it does not occur, in ceil(log2(L + 1)) bits; then the words.
    Words of equal length are consecutive numbers in the order of the symbols, shorter
    words come first. No symbols cost nothing. At most 256 symbols.
    """

    def lengths(field: Field) -> int | Array:
        if not count(field):
            return 0
        if count(field) > MOST:
            raise InputError(f"huffman takes up to {MOST} symbols, not {count(field)}")
        counts = histogram(numbers(field), field.alphabet)
        added, deepest = _total_and_depth(counts)
        digits = 32 - jax.lax.clz(deepest.astype(jnp.uint32)).astype(jnp.int32)
        table = jnp.where(deepest, field.alphabet * digits, width(field.alphabet))
        return jnp.append(added, _DEPTH_BITS + table)

    return Code(lengths, _encode, _decode, largest=LARGEST)
