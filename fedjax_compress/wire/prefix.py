"""Words of different lengths side by side: written at once, found by walking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.wire.code import BitReader

_CHUNK = 1 << 20
LONGEST = 64
"""Bits of a word, at most."""

Everywhere = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def join(words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Right-aligned uint64 words of 0 .. 64 bits each, one after another, as bits."""
    lengths = lengths.astype(np.int64)
    start = np.cumsum(lengths) - lengths
    bits = np.zeros(int(lengths.sum()), np.uint8)
    for j in range(int(lengths.max(initial=0))):
        has = lengths > j
        shift = (lengths[has] - 1 - j).astype(np.uint64)
        bits[start[has] + j] = (words[has] >> shift) & np.uint64(1)
    return bits


def windows(bits: np.ndarray, width: int) -> np.ndarray:
    """The ``width`` bits, at most 57, that start at each position, as uint64.

    Zeros follow the end.
    """
    padded = np.packbits(np.concatenate([bits, np.zeros(72, np.uint8)]))
    wide = np.zeros(padded.size - 7, np.uint64)
    for j in range(8):
        wide = (wide << np.uint64(8)) | padded[j : j + wide.size]
    at = np.arange(bits.size)
    wide = wide[at // 8] << (at % 8).astype(np.uint64)
    return wide >> np.uint64(64 - width)


def walk(reader: BitReader, n: int, everywhere: Everywhere, name: str) -> np.ndarray:
    """The values of n words, one after another.

    Args:
      reader: where they begin; is left behind the last.
      n: number of words, each of at least one bit.
      everywhere: bits -> (the value of a word that begins there, where the next
        begins or -1 if none does), for every position.
      name: of the code, for messages.

    Raises:
      WireError: the bits end before, or hold something that is no word.
    """
    if n > reader.left:
        raise WireError(f"the message is too short for {n} words of code {name}")
    found: list[np.ndarray] = []
    left = n
    while left:
        base = reader.position
        most = min(_CHUNK, left * LONGEST)
        chunk = reader.bits[base : base + most + LONGEST]
        value, following = everywhere(chunk)
        steps, starts, at = following.tolist(), [], 0
        while left and 0 <= at < min(most, chunk.size):
            starts.append(at)
            at = steps[at]
            left -= 1
        if at < 0 or (left and at >= chunk.size):
            raise WireError(f"the message ends inside a word of code {name}")
        found.append(value[np.array(starts, np.int64)])
        reader.position = base + at
    return np.concatenate([*found, np.zeros(0, np.uint64)])
