"""Sparse fields by the zeros in between: Golomb-Rice gaps, and 16-bit run lengths."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.numerics.bitset import over_gaps
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits
from fedjax_compress.wire.codes.golomb import read_gaps, write_gaps
from fedjax_compress.wire.sparse import Positions, sparse, times

RUN_BITS = 16
ESCAPE = 2**RUN_BITS - 1
"""The word that stands for so many zeros and no element."""


@functools.cache
def rice_limits(n: int) -> tuple[int, ...]:
    """The Rice parameter of k positions below n is the number of limits >= k.

    The best parameter for density p = k / n is at least j + 1 where
    2**j <= ln(0.618...) / ln(1 - p), and -1 / ln(1 - p) is 1 / p - 1 / 2 up to O(p).
    Solved for k, with ln(1.618...) = 0.481212, in integers, so that both ends and the
    compiled count agree to the last bit.
    """
    return tuple(481_212 * n // (10**6 * 2**j + 240_606) for j in range(31))


def rice_parameter(k: int, n: int) -> int:
    """The Rice parameter, on the host."""
    return sum(k <= limit for limit in rice_limits(n)) if k else 0


@register_code("sparse_golomb")
def sparse_golomb() -> Code:
    """Rice code of the gaps, as in ``golomb``; see ``wire.sparse`` for the rest.

    The parameter follows from k and n (``rice_limits``), so it does not travel.
    """

    def lengths(words: Array, k: Array, n: int) -> list[Array]:
        m = jnp.sum((k <= jnp.array(rice_limits(n), jnp.int32)).astype(jnp.int32))
        # k <= n / 2**m where m > 0, so that the product fits as well as n does.
        return [over_gaps(words, lambda zeros: zeros >> m), (k * (m + 1))[None]]

    def encode(positions: np.ndarray, n: int) -> np.ndarray:
        return write_gaps(positions, rice_parameter(positions.size, n))

    def decode(reader: BitReader, k: int, n: int) -> np.ndarray:
        return read_gaps(reader, k, n, rice_parameter(k, n)).astype(np.int64)

    return sparse(Positions(lengths, encode, decode))


@register_code("sparse_runs")
def sparse_runs() -> Code:
    """The zeros in front of each element sent, in 16 bits (Lin et al. 2018).

    A word of 0 .. 65534 is that number of zeros and then an element; 65535 is that
    number of zeros and no element, so that longer runs take more words. Zeros after
    the last element are not written. The words come first, then the values.
    """

    def lengths(words: Array, k: Array, n: int) -> list[Array]:
        parts = [times(k, RUN_BITS)]
        if n > ESCAPE:
            parts.append(RUN_BITS * over_gaps(words, lambda zeros: zeros // ESCAPE))
        return parts

    def encode(positions: np.ndarray, n: int) -> np.ndarray:
        zeros = np.diff(positions, prepend=-1) - 1
        escapes = zeros // ESCAPE
        written = np.full(int(escapes.sum()) + zeros.size, ESCAPE, np.uint16)
        written[np.cumsum(escapes + 1) - 1] = zeros % ESCAPE
        return to_bits(written, RUN_BITS)

    def decode(reader: BitReader, k: int, n: int) -> np.ndarray:
        left = (reader.bits.size - reader.position) // RUN_BITS
        most = min(left, k + n // ESCAPE)
        start = reader.position
        written = from_bits(reader.take(most * RUN_BITS), RUN_BITS).astype(np.int64)
        ends = np.flatnonzero(written != ESCAPE)[:k]
        if ends.size < k:
            raise WireError(f"{ends.size} runs of zeros, expected {k}")
        used = int(ends[-1]) + 1 if k else 0
        reader.position = start + used * RUN_BITS
        passed = np.cumsum(written[:used])[ends]
        positions = passed + np.arange(k)
        if k and positions[-1] >= n:
            raise WireError(f"position {positions[-1]} among {n} elements")
        return positions

    return sparse(Positions(lengths, encode, decode))
