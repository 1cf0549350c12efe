"""The search for the k largest equals sorting, ties and all."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress
from fedjax_compress.numerics import ranking
from fedjax_compress.numerics.ranking import (
    kth_largest,
    largest,
    magnitudes,
    positions_of_largest,
)
from fedjax_compress.typing import Keys

LARGE = 2 * ranking.SAMPLE + 5000
"""Elements: so many that a sample says first where to look."""


def vectors(n):
    """Float32 [cases, n]: what a search might stumble over."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=n)
    stride = (n // ranking.SAMPLE) | 1
    periodic = np.where(np.arange(n) % stride == 0, 1e6, normal)
    cases = {
        "normal": normal,
        "zero": np.zeros(n),
        "constant": np.full(n, -0.7),
        "few values": rng.integers(-3, 4, n),
        "sparse": normal * (rng.random(n) < 0.01),
        "heavy": normal / rng.random(n) ** 4,
        "sample sees only the largest": periodic,
        "sample sees only the smallest": np.where(periodic == 1e6, 0, normal),
        "subnormal": 1e-40 * normal,
        "not finite": np.where(
            rng.random(n) < 0.01,
            np.nan,
            np.where(rng.random(n) < 0.01, -np.inf, normal),
        ),
    }
    return np.stack([x.astype(np.float32) for x in cases.values()])


def sorted_positions(x, k):
    """By plain numpy: stable sort of the magnitudes, NaN as infinity."""
    size = np.where(np.isnan(x), np.inf, np.abs(x.astype(np.float64)))
    return np.sort(np.argsort(-size, kind="stable")[:k])


@functools.cache
def compiled():
    def masks(x, k):
        return largest(magnitudes(x), k), kth_largest(magnitudes(x), k)

    return jax.jit(jax.vmap(masks, (0, None)))


@pytest.mark.parametrize("n", [1, 2, 700, LARGE])
def test_largest_equals_a_stable_sort(n):
    """For ranks from one to all, in lanes side by side that need unlike many passes."""
    x = vectors(n)
    ranks = sorted({1, min(2, n), -(-n // 100), -(-n // 10), n // 2 + 1, n - 1 or 1, n})
    for k in ranks:
        masks, thresholds = compiled()(jnp.asarray(x), jnp.int32(k))
        for row, mask, threshold in zip(x, masks, thresholds, strict=True):
            chosen = sorted_positions(row, k)
            np.testing.assert_array_equal(np.flatnonzero(mask), chosen)
            smallest = magnitudes(jnp.asarray(row))[chosen].min()
            assert int(threshold) == int(smallest)


def test_none_of_them():
    masks, _ = compiled()(jnp.asarray(vectors(700)), jnp.int32(0))
    assert not np.asarray(masks).any()


@pytest.mark.parametrize("k", [ranking.FEW, ranking.FEW + 1, 9000])
def test_positions_are_the_same_however_they_are_found(k):
    x = vectors(LARGE)
    found = jax.jit(jax.vmap(lambda v: positions_of_largest(magnitudes(v), k)))(x)
    for row, positions in zip(x, found, strict=True):
        np.testing.assert_array_equal(positions, sorted_positions(row, k))


def test_patterns_are_ordered_as_magnitudes_are():
    x = [0.0, -0.0, 1e-45, -1e-40, 1.0, -1.5, 3e38, -np.inf, np.nan]
    patterns = magnitudes(jnp.array(x, jnp.float32)).tolist()
    assert patterns == [0, 0, 1, 71362, 0x3F800000, 0x3FC00000, *patterns[6:]]
    assert patterns[6] < 0x7F800000
    assert patterns[7:] == [0x7F800000] * 2
    assert magnitudes(jnp.array([-2], jnp.bfloat16)).tolist() == [0x40000000]


def test_top_k_of_a_large_vector():
    """The stage itself, beyond the size at which it sorts."""
    x = vectors(LARGE)[0]
    keys = Keys(jax.random.key(0), jax.random.key(0))
    stage = compress.top_k(0.1)
    carrier, side, _ = jax.jit(stage.encode)(x, (), keys)
    chosen = sorted_positions(x, -(-LARGE // 10))
    np.testing.assert_array_equal(side["indices"].symbols, chosen)
    np.testing.assert_array_equal(carrier, x[chosen])
    decoded = stage.decode(carrier, side, keys.shared)
    np.testing.assert_array_equal(np.flatnonzero(decoded), chosen)
