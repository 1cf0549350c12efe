"""What the codes of sparse fields share: which elements are sent, count and values.

A sparse field is dense in memory and has a fixed shape. Symbol 0 means that an element
is not sent; for words (floats) that is the bit pattern 0, so -0.0 would be sent. How
many are sent depends on the data and travels with them. Every code writes, one after
another:

1. the number k of elements sent, in ceil(log2(n + 1)) bits;
2. their positions, which is where the codes differ;
3. their values, in ``value_width`` bits each: symbol - 1, or the symbol itself where
   leaving out the 0 saves no bit, as in floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError, WireError
from fedjax_compress.numerics.bitset import marked, pack_mask
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits, width
from fedjax_compress.wire.field import Field, count


class Positions(NamedTuple):
    """How the positions of a sparse field become bits.

    Attributes:
      lengths: (words of a bitset, k, n) -> int32 arrays of parts whose sum is the
        number of bits.
      encode: (increasing positions int64 [k], n) -> uint8 bits, each 0 or 1.
      decode: (reader, k, n) -> int64 [k], increasing and below n, or a WireError.
    """

    lengths: Callable[[Array, Array, int], list[Array]]
    encode: Callable[[np.ndarray, int], np.ndarray]
    decode: Callable[[BitReader, int, int], np.ndarray]


def sparse(positions: Positions) -> Code:
    """The code of sparse fields that writes positions in the given way."""

    def lengths(field: Field) -> int | Array:
        n = check_size(count(field))
        if n == 0:
            return 0
        words = bitset(field)
        k = marked(words)
        return join(
            jnp.full(1, width(n + 1), jnp.int32),
            times(k, value_width(field.alphabet)),
            *positions.lengths(words, k, n),
        )

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        n = check_size(symbols.size)
        chosen = np.flatnonzero(symbols)
        parts = [write_count(chosen.size, n), positions.encode(chosen, n)]
        return np.concatenate([*parts, write_values(symbols[chosen], alphabet)])

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        k = read_count(reader, check_size(n))
        chosen = positions.decode(reader, k, n)
        return spread(chosen, read_values(reader, k, alphabet), n, alphabet)

    return Code(lengths, encode, decode)


def check_size(n: int) -> int:
    """n itself, if positions below it fit 31 bits."""
    if n >= 2**31:
        raise InputError(f"a sparse field has at most 2**31 - 1 elements, not {n}")
    return n


def bitset(field: Field) -> Array:
    """The elements that are sent, as the words of ``pack_mask``."""
    symbols = jnp.asarray(field.symbols).reshape(-1)
    if jnp.issubdtype(symbols.dtype, jnp.floating):
        # The pattern decides: comparing floats takes -0.0 and subnormals for zero.
        unsigned = jnp.dtype(f"uint{8 * symbols.dtype.itemsize}")
        symbols = jax.lax.bitcast_convert_type(symbols, unsigned)
    return pack_mask(symbols.astype(bool))


def times(k: Array, bits: int) -> Array:
    """Parts whose sum is k times a number of bits, without overflow."""
    return jnp.broadcast_to(k, (bits,))


def join(*parts: Array) -> Array:
    """Parts of a length, in one int32 array."""
    return jnp.concatenate([p.reshape(-1).astype(jnp.int32) for p in parts])


def value_width(alphabet: int) -> int:
    """Bits of the value of an element that is sent: ceil(log2(alphabet - 1))."""
    return width(max(alphabet - 1, 1))


def _lowest(alphabet: int) -> int:
    """What is subtracted from a symbol: 1 where that saves a bit, else 0."""
    return int(value_width(alphabet) < width(alphabet))


def write_count(k: int, n: int) -> np.ndarray:
    """k of 0 .. n as bits."""
    return to_bits(np.array([k], np.uint64), width(n + 1))


def read_count(reader: BitReader, n: int) -> int:
    """The number of elements sent, of n."""
    if n == 0:
        return 0
    k = int(from_bits(reader.take(width(n + 1)), width(n + 1))[0])
    if k > n:
        raise WireError(f"{k} elements sent of {n}")
    return k


def write_values(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    """Symbols other than 0 as bits."""
    values = symbols.astype(np.uint64) - np.uint64(_lowest(alphabet))
    return to_bits(values, value_width(alphabet))


def read_values(reader: BitReader, k: int, alphabet: int) -> np.ndarray:
    """k symbols other than 0, uint64."""
    bits = value_width(alphabet)
    if bits:
        values = from_bits(reader.take(k * bits), bits).astype(np.uint64)
    else:
        values = np.zeros(k, np.uint64)
    symbols = values + np.uint64(_lowest(alphabet))
    if k and (symbols.min() == 0 or int(symbols.max()) >= alphabet):
        worst = symbols.min() if symbols.min() == 0 else symbols.max()
        raise WireError(f"{worst} is no symbol of an element sent, of {alphabet}")
    return symbols


def spread(
    positions: np.ndarray, symbols: np.ndarray, n: int, alphabet: int
) -> np.ndarray:
    """The dense symbols [n], 0 where nothing was sent."""
    size = next((s for s in (1, 2, 4) if alphabet <= 2 ** (8 * s)), 8)
    dense = np.zeros(n, f"u{size}")
    dense[positions] = symbols
    return dense


def check_positions(positions: np.ndarray, n: int) -> np.ndarray:
    """The positions as int64, if they increase and are below n."""
    positions = positions.astype(np.int64)
    if np.any(np.diff(positions) <= 0):
        raise WireError("positions that do not increase")
    if positions.size and positions[-1] >= n:
        raise WireError(f"position {positions[-1]} among {n} elements")
    return positions
