"""Elias gamma: short words for small symbols, the simplest universal code."""

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


def gamma_length(number: Array) -> Array:
    """Bits of the gamma code of integers >= 1, as int32: 2 floor(log2 k) + 1."""
    return 63 - 2 * jax.lax.clz(number.astype(jnp.uint32)).astype(jnp.int32)


def write_gamma(numbers: np.ndarray) -> np.ndarray:
    """The bits of the gamma code of integers from 1 to 2**32 - 1, one after another."""
    k = numbers.astype(np.uint64)
    binary = np.frexp(k.astype(np.float64))[1]
    return join(k, 2 * binary - 1)


def read_gamma(reader: BitReader, n: int, name: str = "gamma") -> np.ndarray:
    """The n integers, as uint64, that ``write_gamma`` has written.

    Raises:
      WireError: the message ends before, or a word is longer than any we write.
    """
    return walk(reader, n, _everywhere, name)


def _everywhere(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ones = np.append(np.flatnonzero(bits), bits.size)
    at = np.arange(bits.size)
    one = ones[np.searchsorted(ones, at)]
    zeros = np.minimum(one - at, 32)
    end = one + zeros + 1
    binary = np.append(windows(bits, 32), np.uint64(0))[one]
    value = binary >> (np.maximum(31 - zeros, 0)).astype(np.uint64)
    return value, np.where((zeros < 32) & (end <= bits.size), end, -1)


@register_code("gamma")
def gamma() -> Code:
    """Elias gamma code of symbol + 1, symbol after symbol.

    The word of k with b binary digits: b - 1 zeros, then k in binary. So 1 is ``1``,
    2 is ``010``, 4 is ``00100``.
    """

    def lengths(field: Field) -> int | Array:
        return gamma_length(numbers(field).astype(jnp.uint32) + 1)

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        return write_gamma(symbols.astype(np.uint64) + np.uint64(1))

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        symbols = read_gamma(reader, n) - np.uint64(1)
        if n and symbols.max() >= alphabet:
            raise WireError(f"symbol {symbols.max()} in an alphabet of {alphabet}")
        return symbols

    return Code(lengths, encode, decode, largest=LARGEST)
