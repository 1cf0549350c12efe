"""Bits, ranks, permutations, random numbers, numbers that change over rounds."""

from fedjax_compress.numerics import (
    bitset,
    by_round,
    promotion,
    randomness,
    ranking,
    schedules,
    shuffle,
)

__all__ = [
    "bitset",
    "by_round",
    "promotion",
    "randomness",
    "ranking",
    "schedules",
    "shuffle",
]
