"""Zero runs: a few symbols to a byte, and one byte for a run of bytes of zeros."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.field import Field, count, numbers

LARGEST = 255
"""Largest alphabet, so that a byte has a value left to stand for a run."""


def group(alphabet: int) -> int:
    """Symbols in a byte: the most for which at least one value stays free."""
    m = 1
    while alphabet > 1 and alphabet ** (m + 1) < 256:
        m += 1
    return m


def longest_run(alphabet: int) -> int:
    """Groups of zeros that one byte stands for, at most: 14 for three symbols."""
    return 257 - alphabet ** group(alphabet)


def _grouped(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    """The value of each group, its first symbol the most significant digit."""
    m = group(alphabet)
    rows = -(-symbols.size // m)
    padded = np.zeros(rows * m, np.int64)
    padded[: symbols.size] = symbols
    return padded.reshape(rows, m) @ (alphabet ** np.arange(m)[::-1])


def _encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    values, longest = _grouped(symbols, alphabet), longest_run(alphabet)
    zero = values == 0
    # A byte for each group that is not zero, and for each piece of a run.
    at = np.arange(values.size)
    last = np.maximum.accumulate(np.where(zero, -1, at))
    first = ~zero | ((at - last - 1) % longest == 0)
    starts = np.flatnonzero(first)
    run = np.diff(np.append(starts, values.size))
    runs = values[starts]
    runs = np.where(run > 1, alphabet ** group(alphabet) + run - 2, runs)
    return np.unpackbits(runs.astype(np.uint8))


def _decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
    m, values = group(alphabet), alphabet ** group(alphabet)
    groups = -(-n // m)
    most = min(8 * groups, reader.left // 8 * 8)
    found = np.packbits(reader.bits[reader.position : reader.position + most])
    run = np.where(found < values, 1, found.astype(np.int64) - values + 2)
    total = np.cumsum(run)
    used = int(np.searchsorted(total, groups)) + 1 if groups else 0
    if used > found.size:
        raise WireError("the message ends before all runs of zeros and other groups")
    if used and total[used - 1] != groups:
        raise WireError(f"runs of {total[used - 1]} groups, expected {groups}")
    reader.take(8 * used)
    each = np.where(found < values, found, 0)[:used].astype(np.int64)
    number = np.repeat(each, run[:used])
    digits = number[:, None] // alphabet ** np.arange(m)[::-1] % alphabet
    symbols = digits.reshape(-1)
    if symbols[n:].any():
        raise WireError("a group of symbols goes beyond the last one")
    return symbols[:n].astype(np.uint8)


@register_code("zero_runs")
def zero_runs() -> Code:
    """m symbols to a byte as digits of one number; runs of zeros in one byte.

    m is the most for which alphabet**m < 256, five for three symbols. A byte b below
    alphabet**m is a group; any other stands for b - alphabet**m + 2 groups of zeros,
    2 to 14 of them for three symbols. Longer runs are cut into pieces from the front.
    A last, short group is filled up with zeros. At most 255 symbols.

    Reference: quartic and zero-run encoding of 3LC, Lim et al. 2019, section 3.3.
    Deviations: zero is symbol 0, so the group of zeros is byte 0; other alphabets.
    """

    def lengths(field: Field) -> int | Array:
        m, n = group(field.alphabet), count(field)
        rows = -(-n // m)
        symbols = numbers(field)
        padded = jnp.pad(symbols != 0, (0, rows * m - n))
        zero = ~jnp.any(padded.reshape(rows, m), axis=1)
        at = jnp.arange(rows)
        last = jax.lax.cummax(jnp.where(zero, -1, at)) if rows else at
        piece = (at - last - 1) % longest_run(field.alphabet) == 0
        return jnp.where(~zero | piece, 8, 0)

    return Code(lengths, _encode, _decode, largest=LARGEST)
