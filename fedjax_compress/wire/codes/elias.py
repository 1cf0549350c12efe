"""Elias omega: short words for small symbols, without any parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.field import Field, numbers
from fedjax_compress.wire.prefix import join, walk, windows

LARGEST = 2**31
"""Largest alphabet, so that symbol + 1 fits a word and a code word fits 64 bits."""
_DEPTH = 5
"""Groups before the final zero in a code word of a number below 2**32, at most."""


def omega_length(number: Array) -> Array:
    """Bits of the omega code of integers >= 1, as int32.

    L(1) = 1; for k > 1 the bit lengths down the chain k -> bitlen(k) - 1, plus 1.
    """
    k = number.astype(jnp.uint32)
    length = jnp.ones(k.shape, jnp.int32)
    for _ in range(_DEPTH):
        bits = 32 - jax.lax.clz(k).astype(jnp.int32)
        length = length + jnp.where(k > 1, bits, 0)
        k = jnp.where(k > 1, (bits - 1).astype(jnp.uint32), k)
    return length


def words(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Code words, right-aligned in uint64, and their lengths."""
    k = number.astype(np.uint64)
    word = np.zeros_like(k)
    length = np.ones_like(k)
    for _ in range(_DEPTH):
        more = k > 1
        bits = np.frexp(k.astype(np.float64))[1].astype(np.uint64)
        word = np.where(more, word | (k << length), word)
        length = np.where(more, length + bits, length)
        k = np.where(more, bits - np.uint64(1), k)
    return word, length.astype(np.int64)


def read_everywhere(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each start: the number of the code word there, and where the next begins.

    A word that never ends, or is longer than any we write, gives next = -1.
    """
    window = np.append(windows(bits, 32), np.uint64(0))
    at = np.arange(bits.size)
    value = np.ones(bits.size, np.uint64)
    done = np.zeros(bits.size, bool)
    good = np.ones(bits.size, bool)
    for _ in range(_DEPTH + 1):
        here = window[np.minimum(at, bits.size)]
        stop = ~done & (here >> np.uint64(31) == 0)
        at = np.where(stop, at + 1, at)
        done |= stop
        good &= done | (value < 32)
        group = np.minimum(value, np.uint64(31)) + np.uint64(1)
        read = here >> (np.uint64(32) - group)
        at = np.where(done, at, at + group.astype(np.int64))
        value = np.where(done, value, read)
    return value, np.where(done & good & (at <= bits.size), at, -1)


def _encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    return join(*words(symbols.astype(np.uint64) + np.uint64(1)))


def _decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
    symbols = walk(reader, n, read_everywhere, "elias") - np.uint64(1)
    if symbols.size and symbols.max() >= alphabet:
        raise WireError(f"symbol {symbols.max()} in an alphabet of {alphabet}")
    return symbols


@register_code("elias")
def elias() -> Code:
    """Elias omega code of symbol + 1, symbol after symbol.

    The word of k: start with the bit 0; while k > 1, put the binary form of k in
    front and replace k by its bit length minus 1. So 1 is ``0``, 2 is ``100``, 4 is
    ``101000``.
    """

    def lengths(field: Field) -> int | Array:
        return omega_length(numbers(field).astype(jnp.uint32) + 1)

    return Code(lengths, _encode, _decode, largest=LARGEST)
