"""Permutations by element: bijections, and statistically like random ones.

Keys are fixed, so the statistics below either hold or not; were the keys new in every
run, each of the 56 would fail by chance with probability ALPHA, all together 6e-7.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_compress.numerics.randomness import GENERATORS, root_key
from fedjax_compress.numerics.shuffle import permute

ALPHA = 1e-8
DRAWS = 40_000


@jax.jit
def shuffled(keys, index, size):
    return jax.vmap(lambda key: permute(key, index, size))(keys)


@pytest.fixture(params=GENERATORS)
def generator(request) -> str:
    return request.param


def draw(generator, seed: int, index: list[int], size: int, draws=DRAWS) -> np.ndarray:
    """[draws, len(index)], the images of ``index`` under that many permutations."""
    keys = jax.random.split(root_key(seed, generator), draws)
    return np.asarray(shuffled(keys, jnp.array(index), size))


def assert_uniform(cells: np.ndarray, count: int) -> None:
    """Chi-square test that all ``count`` cells are equally likely."""
    observed = np.bincount(cells.ravel(), minlength=count)
    assert observed.size == count
    expected = cells.size / count
    assert expected >= 20
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert statistic < stats.chi2.isf(ALPHA, count - 1)


def test_every_size_up_to_300_gives_a_bijection():
    run = jax.jit(permute)
    index = jnp.arange(300)
    for n in range(1, 301):
        image = np.asarray(run(jax.random.key(n), index, n))[:n]
        np.testing.assert_array_equal(np.sort(image), np.arange(n))


def test_few_rounds_go_into_one_kernel():
    """A compiler that computes a value anew at each use writes 3^r of them for r rounds
    in a row: 24 of them compiled for ever."""
    program = jax.make_jaxpr(permute)(jax.random.key(0), jnp.arange(3), 3).jaxpr
    (inner,) = [eqn.params["jaxpr"].jaxpr for eqn in program.eqns]
    names = [eqn.params.get("name", eqn.primitive.name) for eqn in inner.eqns]
    rounds = [n for n in names if n in ("_turn", "optimization_barrier")]
    pieces = " ".join(rounds).split("optimization_barrier")
    counts = [piece.split().count("_turn") for piece in pieces]
    assert sum(counts) == 24
    assert max(counts) <= 3


@pytest.mark.parametrize("n", [2**20 + 7, 2**31 - 1])
def test_large_sizes_stay_in_range_and_collide_nowhere(n):
    index = jnp.concatenate([jnp.arange(5000), n - 1 - jnp.arange(5000)])
    image = np.asarray(permute(jax.random.key(0), index, n))
    assert image.dtype == np.int32
    assert image.min() >= 0
    assert image.max() < n
    assert np.unique(image).size == index.size


def test_size_may_be_traced_and_index_of_any_shape():
    index = jnp.arange(12).reshape(3, 4)
    key = jax.random.key(3)
    np.testing.assert_array_equal(
        jax.jit(permute)(key, index, jnp.int32(12)), permute(key, index, 12)
    )
    np.testing.assert_array_equal(
        permute(key, index, 12, unroll=False), permute(key, index, 12)
    )
    assert permute(key, index, 12).shape == (3, 4)
    assert permute(key, jnp.int32(0), 1) == 0


@pytest.mark.parametrize("n", [2, 5, 16, 60, 100])
def test_every_position_is_equally_likely(generator, n):
    for i in (0, n // 2, n - 1):
        assert_uniform(draw(generator, n + i, [i], n), n)


@pytest.mark.parametrize("n", [3, 7, 16, 30])
@pytest.mark.parametrize("first", [0, 1])
def test_neighbours_land_independently(generator, n, first):
    """Pairs of distinct positions are equally likely: n (n - 1) cells."""
    a, b = draw(generator, 1000 * first + n, [first, first + 1], n).T
    assert (a != b).all()
    assert_uniform(a * (n - 1) + b - (b > a), n * (n - 1))


@pytest.mark.parametrize("n", [3, 4, 5])
def test_every_permutation_is_equally_likely(generator, n):
    """All n! of them."""
    images = draw(generator, n, list(range(n)), n)
    codes = (images * n ** np.arange(n)).sum(axis=1)
    known, cells = np.unique(codes, return_inverse=True)
    assert known.size == {3: 6, 4: 24, 5: 120}[n]
    assert_uniform(cells, known.size)


def test_fixed_points_and_ascents_are_as_many_as_by_chance(generator):
    """n = 100: one fixed point on average (variance 1), 99 / 2 ascents (101 / 12)."""
    n = 100
    images = draw(generator, 7, list(range(n)), n, draws=10_000)
    limit = stats.norm.isf(ALPHA / 2)
    fixed = (images == np.arange(n)).sum(axis=1)
    assert abs(fixed.mean() - 1) < limit / np.sqrt(fixed.size)
    ascents = (np.diff(images, axis=1) > 0).sum(axis=1)
    spread = np.sqrt((n + 1) / 12 / ascents.size)
    assert abs(ascents.mean() - (n - 1) / 2) < limit * spread


def test_different_keys_give_different_permutations(generator):
    """1000 permutations of 30: two alike by chance with probability 2e-27."""
    images = draw(generator, 11, list(range(30)), 30, draws=1000)
    assert np.unique(images, axis=0).shape[0] == 1000
    ids = jnp.arange(999)
    folded = jax.vmap(jax.random.fold_in, (None, 0))(root_key(0, generator), ids)
    images = np.asarray(shuffled(folded, jnp.arange(30), 30))
    assert np.unique(images, axis=0).shape[0] == 999
