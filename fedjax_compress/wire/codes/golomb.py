"""Golomb-Rice gaps: positions of a sparse set, close to the information bound."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError, WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits
from fedjax_compress.wire.field import Field, count


def parameter(n: int, alphabet: int) -> int:
    """The Rice parameter for ``n`` positions below ``alphabet``; both ends know both.

    m = max(0, 1 + floor(log2(ln(0.618...) / ln(1 - p)))) with p = n / alphabet.
    """
    if n == 0 or n >= alphabet:
        return 0
    golden = (math.sqrt(5) - 1) / 2
    ratio = math.log(golden) / math.log1p(-n / alphabet)
    return max(0, 1 + math.floor(math.log2(ratio)))


def check_increasing(symbols: np.ndarray, code: str) -> np.ndarray:
    """The symbols as int64, if each is larger than the one before."""
    positions = symbols.astype(np.int64)
    if np.any(np.diff(positions) <= 0):
        raise InputError(f"{code} takes strictly increasing indices")
    return positions


def write_gaps(positions: np.ndarray, m: int) -> np.ndarray:
    """Rice code with parameter m of the gaps between increasing positions, as bits."""
    gap = np.diff(positions, prepend=-1) - 1
    quotient = gap >> m
    length = quotient + 1 + m
    zero = np.cumsum(length) - length + quotient
    bits = np.ones(int(length.sum()), np.uint8)
    bits[zero] = 0
    if m:
        low = to_bits((gap & ((1 << m) - 1)).astype(np.uint64), m)
        bits[zero[:, None] + 1 + np.arange(m)] = low.reshape(-1, m)
    return bits


def read_gaps(reader: BitReader, n: int, alphabet: int, m: int) -> np.ndarray:
    """The n positions below the alphabet that ``write_gaps`` wrote, uint64.

    Raises:
      WireError: the bits are not n such positions.
    """
    bits = reader.bits[reader.position :]
    # At most this many bits can belong to n increasing positions below alphabet.
    bits = bits[: n * (m + 1) + (alphabet >> m) + 1]
    zeros = np.append(np.flatnonzero(bits == 0), bits.size)
    rank = np.searchsorted(zeros, np.arange(bits.size + 1)).tolist()
    stops, at = [], 0
    ends = zeros.tolist()
    for _ in range(n):
        zero = ends[rank[at]] if at < bits.size else bits.size
        if zero + m >= bits.size:
            raise WireError("the message ends inside a list of indices")
        stops.append(zero)
        at = zero + 1 + m
    zero = np.array(stops, np.int64)
    starts = np.append(0, zero[:-1] + 1 + m)[: zero.size]
    gap = (zero - starts) << m
    if m and n:
        low = bits[zero[:, None] + 1 + np.arange(m)].reshape(-1)
        gap = gap + from_bits(low, m).astype(np.int64)
    positions = np.cumsum(gap + 1) - 1
    if n and positions[-1] >= alphabet:
        raise WireError(f"index {positions[-1]} among {alphabet} positions")
    reader.position += at
    return positions.astype(np.uint64)


@register_code("golomb")
def golomb() -> Code:
    """Rice code of each gap - 1 of strictly increasing indices below the alphabet.

    With q, r = divmod(gap - 1, 2**m): q ones, a zero, then r in m bits, most
    significant first. The first gap counts from index -1. m follows from the number of
    indices and the alphabet (``parameter``), so it does not travel.
    """

    def lengths(field: Field) -> int | Array:
        m = parameter(count(field), field.alphabet)
        positions = jnp.asarray(field.symbols).reshape(-1).astype(jnp.int32)
        return (jnp.diff(positions, prepend=-1) - 1 >> m) + (m + 1)

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        positions = check_increasing(symbols, "golomb")
        return write_gaps(positions, parameter(symbols.size, alphabet))

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        return read_gaps(reader, n, alphabet, parameter(n, alphabet))

    return Code(lengths, encode, decode, increasing=True)
