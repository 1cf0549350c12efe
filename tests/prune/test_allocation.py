"""Sparsities of layers, and exact numbers of units."""

from __future__ import annotations

import functools
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_compress import prune
from fedjax_compress.errors import InputError

SIZES = (12, 700, 5, 40_000_000, 3000)
SHARES = st.floats(0, 1, width=32)
LAYERS = st.lists(SHARES, min_size=len(SIZES), max_size=len(SIZES))
ADAPTIVE = jax.jit(functools.partial(prune.adaptive, sizes=SIZES))
COUNTS = jax.jit(lambda s, total: prune.kept_counts(s, SIZES, total))
OWN_TOTAL = jax.jit(lambda s: prune.kept_counts(s, SIZES))
TOTAL = jax.jit(functools.partial(prune.kept_total, units=sum(SIZES)))


def exact_kept(sparsity, units):
    """round((1 - S) units), halves up, with S to 2^-30."""
    share = Fraction(round(Fraction(sparsity) * 2**30), 2**30)
    return (1 - share) * units


def half_up(value):
    return int(value + Fraction(1, 2))


@given(SHARES)
def test_the_total_is_exact(sparsity):
    expected = half_up(exact_kept(sparsity, sum(SIZES)))
    assert int(TOTAL(np.float32(sparsity))) == expected


def test_totals_at_the_ends():
    assert [int(TOTAL(np.float32(s))) for s in (0, 1)] == [sum(SIZES), 0]


@given(SHARES)
def test_uniform_counts_are_largest_remainders(sparsity):
    sparsities = prune.uniform(sparsity, len(SIZES))
    total = half_up(exact_kept(sparsity, sum(SIZES)))
    quotas = [exact_kept(sparsity, n) for n in SIZES]
    expected = [int(q) for q in quotas]
    order = sorted(range(len(SIZES)), key=lambda i: -(quotas[i] - int(quotas[i])))
    for i in order[: total - sum(expected)]:
        expected[i] += 1
    assert COUNTS(sparsities, np.int32(total)).tolist() == expected


@given(LAYERS, SHARES)
def test_counts_give_any_total_within_the_layers(sparsities, overall):
    total = half_up(exact_kept(overall, sum(SIZES[:3])))
    counts = COUNTS(np.float32(sparsities), np.int32(total * 1000))
    assert int(np.sum(counts)) == total * 1000
    assert np.all(np.asarray(counts) >= 0)
    assert np.all(np.asarray(counts) <= SIZES)


def test_too_large_a_total_keeps_everything():
    assert COUNTS(np.zeros(5, np.float32), np.int32(2**31 - 1)).tolist() == list(SIZES)


@given(LAYERS)
def test_without_a_total_each_count_is_next_to_its_share(sparsities):
    counts = np.asarray(OWN_TOTAL(np.float32(sparsities)))
    quotas = [exact_kept(s, n) for s, n in zip(sparsities, SIZES, strict=True)]
    assert all(abs(int(c) - q) < 1 for c, q in zip(counts, quotas, strict=True))
    assert abs(int(counts.sum()) - sum(quotas)) <= Fraction(501, 1000)


@given(LAYERS, SHARES, st.floats(0, 4, width=32))
def test_adaptive_keeps_the_overall_sparsity(importance, sparsity, beta):
    found = ADAPTIVE(
        np.float32(sparsity), np.float32(importance), beta=np.float32(beta)
    )
    found = np.asarray(found, np.float64)
    assert found.min() >= 0
    assert found.max() <= 1
    mean = np.dot(found, SIZES) / sum(SIZES)
    np.testing.assert_allclose(mean, sparsity, rtol=2e-6, atol=2e-6)
    order = np.argsort(importance, kind="stable")
    assert np.all(np.diff(found[order]) <= 1e-6)
    counts = COUNTS(np.float32(found), TOTAL(np.float32(sparsity)))
    assert int(np.sum(counts)) == half_up(exact_kept(sparsity, sum(SIZES)))


@given(LAYERS, SHARES)
def test_beta_zero_is_uniform_to_the_bit(importance, sparsity):
    found = ADAPTIVE(np.float32(sparsity), np.float32(importance), beta=np.float32(0))
    np.testing.assert_array_equal(found, np.float32(sparsity))


def test_adaptive_solves_where_many_layers_are_clipped():
    """4000 random cases at once, in which up to all but one layer are at an end."""
    rng = np.random.default_rng(0)
    sizes = (3, 4, 5, 4, 3, 6)
    importance = np.float32(rng.random((4000, 6)))
    sparsity, beta = np.float32(rng.random(4000)), np.float32(8 * rng.random(4000))
    function = functools.partial(prune.adaptive, sizes=sizes, most=0.8)
    many = jax.jit(jax.vmap(lambda s, i, b: function(s, i, beta=b)))
    found = np.asarray(many(sparsity, importance, beta), np.float64)
    top = np.maximum(sparsity, np.float32(0.8))
    assert np.mean(np.any((found > 0) & (found < top[:, None]), axis=1)) > 0.5
    np.testing.assert_allclose(found @ sizes / sum(sizes), sparsity, atol=2e-6)


def test_equal_importance_is_uniform():
    found = ADAPTIVE(np.float32(0.3), np.full(5, 0.2, np.float32))
    np.testing.assert_allclose(found, 0.3, rtol=1e-6)


def test_adaptive_by_hand():
    """r = (1, 1/2, 0), rbar = 1/2; beta = S = 1/2: no clipping, so no shift."""
    function = functools.partial(prune.adaptive, sizes=(10, 10, 10))
    found = jax.jit(function)(np.float32(0.5), np.float32([1, 2, 3]))
    np.testing.assert_allclose(found, [0.75, 0.5, 0.25], rtol=1e-6)
    # Beta 2: (3/2, 1/2, -1/2) is clipped to (1, 1/2, 0), which has the right mean.
    wide = jax.jit(function)(np.float32(0.5), np.float32([1, 2, 3]), beta=2.0)
    np.testing.assert_allclose(wide, [1, 0.5, 0], atol=1e-6)
    # At most 0.6: the first loses 0.15, the others take it in equal parts.
    limited = jax.jit(functools.partial(function, most=0.6))
    found = limited(np.float32(0.5), np.float32([1, 2, 3]))
    np.testing.assert_allclose(found, [0.6, 0.575, 0.325], rtol=1e-6)
    above = limited(np.float32(0.9), np.float32([1, 2, 3]))
    np.testing.assert_allclose(above, 0.9, rtol=1e-6)


def test_adaptive_needs_as_many_sizes():
    with pytest.raises(InputError, match="3 layers need as many sizes, not 2"):
        prune.adaptive(0.5, np.zeros(3, np.float32), (1, 2))


def test_importance_is_the_mean_magnitude():
    weights = {"a": np.float32([[1, -3]]), "b": None, "c": np.float32([[-5], [0]])}
    np.testing.assert_array_equal(jax.jit(prune.mean_magnitude)(weights), [2, 2.5])


def test_allocation_maps_over_sparsities():
    sparsities = np.float32([0, 0.25, 0.5, 0.99, 1])
    importance = np.float32([1, 5, 2, 3, 4])

    def counts(sparsity):
        layers = prune.adaptive(sparsity, importance, SIZES)
        return prune.kept_counts(layers, SIZES, prune.kept_total(sparsity, sum(SIZES)))

    one = jax.jit(counts)
    together = jax.jit(jax.vmap(counts))(sparsities)
    np.testing.assert_array_equal(together, [one(s) for s in sparsities])
    assert together[0].tolist() == list(SIZES)
    assert together[-1].tolist() == [0] * 5


@given(st.lists(st.integers(0, 4), min_size=10, max_size=10), st.integers(0, 10))
def test_one_threshold_over_all_layers(values, total):
    scores = {
        "a": np.float32(values[:3]),
        "b": None,
        "c": np.float32(values[3:]).reshape(7, 1),
    }
    kept = np.argsort(-np.array(values), kind="stable")[:total]
    expected = [int((kept < 3).sum()), int((kept >= 3).sum())]
    counts = THRESHOLD(scores, np.int32(total))
    assert counts.tolist() == expected
    mask = MASK(scores, counts)
    joined = np.concatenate([mask["a"], np.ravel(mask["c"])])
    assert sorted(kept) == np.flatnonzero(joined).tolist()


THRESHOLD = jax.jit(prune.counts_of_threshold)
MASK = jax.jit(prune.make_mask)
