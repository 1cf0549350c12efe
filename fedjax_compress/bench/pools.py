"""Synthetic rows that clients share, and which of them each client owns.

Everything is a pure function of ``SEED`` and of what a stream belongs to: client c
owns the same rows in every population.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SEED = 0
SIZES, COHORT, POOL, ROWS, PARAMETERS = 1, 2, 3, 4, 5
"""The random streams, besides the seed."""
CLASSES, SIDE, BLOCK = 62, 28, 4
SYMBOLS, LENGTH = 90, 80
REPEATED = 10_000
"""In a population above ``DISTINCT``, clients are this many, again and again."""
DISTINCT = 20_000
_PER_CLASS, _TEST_PER_CLASS, _KEPT_PER_CLASS = 300, 20, 40
_SEQUENCES, _TEST_SEQUENCES = 6000, 200
_MOST_SIZES = 200_000


class Pool(NamedTuple):
    """Rows for all clients, and rows that no client owns.

    Attributes:
      features: [rows, ...].
      labels: [rows, ...].
      test: int [test rows], numbers of the rows to evaluate on.
    """

    features: np.ndarray
    labels: np.ndarray
    test: np.ndarray


def stream(*parts: int) -> np.random.Generator:
    """The random numbers of one purpose."""
    return np.random.default_rng([SEED, *parts])


def images() -> Pool:
    """Noisy blocks of 4 x 4 pixels, one pattern for each of 62 classes, 300 rows each.

    x = clip(0.9 noise + 0.35 pattern + 0.5, 0, 1), float32 [18600, 28, 28, 1], sorted
    by class. The last 20 rows of each class are the test rows.
    """
    random = stream(POOL)
    coarse = SIDE // BLOCK
    pattern = random.standard_normal((CLASSES, coarse, coarse)).astype(np.float32)
    pattern = pattern.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)
    shape = (CLASSES, _PER_CLASS, SIDE, SIDE)
    pixels = random.standard_normal(shape, dtype=np.float32)
    pixels *= 0.9
    pixels += pattern[:, None] * 0.35
    pixels += 0.5
    np.clip(pixels, 0.0, 1.0, out=pixels)
    labels = np.arange(CLASSES, dtype=np.int32).repeat(_PER_CLASS)
    numbers = np.arange(CLASSES * _PER_CLASS).reshape(CLASSES, _PER_CLASS)
    test = numbers[:, -_TEST_PER_CLASS:].reshape(-1)
    return Pool(pixels.reshape(-1, SIDE, SIDE, 1), labels, test)


def text() -> Pool:
    """6,000 walks of 81 symbols along a Markov chain; labels are the next symbols.

    The chain's 90 transition laws are Dirichlet(0.05). Features and labels are int32
    [6000, 80]; the last 200 walks are the test rows.
    """
    random = stream(POOL)
    laws = random.dirichlet(np.full(SYMBOLS, 0.05), size=SYMBOLS)
    steps = np.cumsum(laws, axis=1)
    steps[:, -1] = 1.0
    walks = np.zeros((_SEQUENCES, LENGTH + 1), np.int32)
    walks[:, 0] = random.integers(0, SYMBOLS, _SEQUENCES)
    for t in range(LENGTH):
        draw = random.random(_SEQUENCES)[:, None]
        walks[:, t + 1] = np.sum(steps[walks[:, t]] < draw, axis=1)
    walks = np.minimum(walks, SYMBOLS - 1)
    test = np.arange(_SEQUENCES - _TEST_SEQUENCES, _SEQUENCES)
    return Pool(
        np.ascontiguousarray(walks[:, :-1]), np.ascontiguousarray(walks[:, 1:]), test
    )


def sizes(population: int) -> np.ndarray:
    """int64 [population], rows of each client: lognormal of mean 102, in 10 .. 350."""
    spread = 0.6
    normal = stream(SIZES).standard_normal(_MOST_SIZES)
    rows = np.exp(np.log(102.0) - spread * spread / 2 + spread * normal)
    rows = np.clip(np.rint(rows), 10, 350).astype(np.int64)
    return _repeat(rows, population)


def text_sizes(population: int) -> np.ndarray:
    """int64 [population], a fifth of ``sizes``, in 4 .. 70."""
    fifth = np.rint(sizes(population) / 5.0)
    return np.clip(fifth, 4, 70).astype(np.int64)


def _repeat(values: np.ndarray, population: int) -> np.ndarray:
    if population <= DISTINCT:
        return values[:population]
    whole, rest = divmod(population, REPEATED)
    first = values[:REPEATED]
    return np.concatenate([np.tile(first, whole), first[:rest]])


def image_rows(client: int, size: int) -> np.ndarray:
    """int32 [size], one client's rows: classes by Dirichlet(0.3), no test row."""
    random = stream(ROWS, client)
    shares = random.dirichlet(np.full(CLASSES, 0.3))
    classes = random.choice(CLASSES, size=size, p=shares)
    within = random.integers(0, _PER_CLASS - _KEPT_PER_CLASS, size)
    return (classes * _PER_CLASS + within).astype(np.int32)


def text_rows(client: int, size: int) -> np.ndarray:
    """int32 [size], one client's walks, uniformly from those that are no test rows."""
    rows = stream(ROWS, client).integers(0, _SEQUENCES - _TEST_SEQUENCES, size)
    return rows.astype(np.int32)
