"""Sampling: pure in (seed, round), distinct, and as likely as it says.

Chi-square thresholds are the quantiles with false-alarm rate 1e-7.
"""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from fedjax_compress import registry
from fedjax_compress.errors import InputError

UNIFORM = registry.build("sampling", "uniform")
WEIGHTED = registry.build("sampling", "weighted")


@pytest.mark.parametrize("sample", [UNIFORM, WEIGHTED])
def test_a_cohort_is_a_pure_function_of_seed_and_round(sample):
    sizes = np.arange(1, 1001)
    first = sample(3, 7, sizes, 20)
    sample(4, 1, sizes, 5)
    np.random.default_rng(0).random(10)
    np.testing.assert_array_equal(first, sample(3, 7, sizes, 20))
    assert (first != sample(3, 8, sizes, 20)).any()
    assert (first != sample(4, 7, sizes, 20)).any()
    assert (sample(3, 4, sizes, 20) != sample(4, 3, sizes, 20)).any()
    assert (sample(-1, 0, sizes, 20) != sample(1, 0, sizes, 20)).any()


@pytest.mark.parametrize("sample", [UNIFORM, WEIGHTED])
@pytest.mark.parametrize("cohort", [1, 7, 99, 100])
def test_ids_are_distinct_and_in_range(sample, cohort):
    for round in range(20):
        ids = sample(0, round, np.arange(1, 101), cohort)
        assert ids.dtype == np.int32
        assert len(np.unique(ids)) == len(ids) == cohort
        assert 0 <= ids.min() <= ids.max() < 100


def test_uniform_pairs_are_equally_likely():
    """20 clients, cohorts of 2: 190 pairs, 19,000 rounds, 189 degrees of freedom."""
    pairs = np.zeros((20, 20))
    for round in range(19_000):
        i, j = UNIFORM(1, round, np.ones(20), 2)
        pairs[i, j] += 1
    seen = pairs[np.triu_indices(20, 1)]
    assert seen.sum() == 19_000
    assert ((seen - 100) ** 2 / 100).sum() < stats.chi2.isf(1e-7, 189)


@pytest.mark.parametrize("clients", [50, 20_000])
def test_uniform_inclusion_is_uniform(clients):
    """Cohorts of clients / 10 over 400 rounds, grouped into 50 blocks of ids.

    The counts of a simple random sample have the multinomial covariance times
    (N - K) / (N - 1), so the scaled sum of squares is chi-square with 49 degrees.
    """
    cohort, rounds, blocks = clients // 10, 400, 50
    seen = np.zeros(blocks)
    for round in range(rounds):
        ids = UNIFORM(2, round, np.ones(clients), cohort)
        seen += np.bincount(ids * blocks // clients, minlength=blocks)
    expected = rounds * cohort / blocks
    scale = (clients - cohort) / (clients - 1)
    value = ((seen - expected) ** 2).sum() / (expected * scale)
    assert value < stats.chi2.isf(1e-7, blocks - 1)
    assert value > stats.chi2.ppf(1e-7, blocks - 1)


def test_successive_rounds_are_independent():
    """Overlap of two cohorts of 10 of 100 is hypergeometric: mean 1, variance 0.818;
    over 4,000 pairs of rounds the mean is normal to six sigma (2e-9)."""
    sizes = np.ones(100)
    cohorts = [UNIFORM(5, round, sizes, 10) for round in range(4001)]
    overlap = [len(np.intersect1d(a, b)) for a, b in itertools.pairwise(cohorts)]
    assert abs(np.mean(overlap) - 1) < 6 * np.sqrt(0.8182 / 4000)


def test_uniform_costs_the_cohort_not_the_population():
    population = np.broadcast_to(np.int32(1), 2_000_000_000)
    tracemalloc.start()
    ids = UNIFORM(0, 1, population, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ids.max() > 1_000_000_000
    assert peak < 100_000


@pytest.mark.parametrize("cohort", [1000, 50_000, 50_001])
def test_uniform_costs_the_cohort_of_a_million(cohort):
    """numpy draws by another method for more than a twentieth of the population: up to
    8 bytes a client of the population, 160 a client of the cohort."""
    population = np.broadcast_to(np.int32(1), 1_000_000)
    tracemalloc.start()
    ids = UNIFORM(0, 1, population, cohort)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(ids)) == cohort
    assert peak < 200 * cohort + 10_000


def test_weighted_single_draws_follow_the_sizes():
    """10,000 rounds, 5 clients of 1, 2, 3, 4 and 0 rows: 3 degrees of freedom."""
    sizes = np.array([1, 2, 3, 4, 0])
    seen = np.zeros(5)
    for round in range(10_000):
        seen[WEIGHTED(0, round, sizes, 1)] += 1
    assert seen[4] == 0
    expected = sizes[:4] * 1000
    assert ((seen[:4] - expected) ** 2 / expected).sum() < stats.chi2.isf(1e-7, 3)


def test_weighted_pairs_are_drawn_one_after_another():
    """P({i, j}) = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j), by hand; 6 pairs of 4
    clients, 10,000 rounds, 5 degrees of freedom."""
    sizes = np.array([1, 2, 3, 14])
    p = sizes / sizes.sum()
    pairs = list(itertools.combinations(range(4), 2))
    chance = np.array(
        [p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j])) for i, j in pairs]
    )
    assert abs(chance.sum() - 1) < 1e-12
    seen = np.zeros(6)
    for round in range(10_000):
        seen[pairs.index(tuple(WEIGHTED(9, round, sizes, 2).tolist()))] += 1
    value = ((seen - 10_000 * chance) ** 2 / (10_000 * chance)).sum()
    assert value < stats.chi2.isf(1e-7, 5)


@pytest.mark.parametrize("sample", [UNIFORM, WEIGHTED])
def test_a_cohort_larger_than_the_population_is_refused(sample):
    with pytest.raises(InputError, match=r"cohort of 11 cannot .* from 10 clients"):
        sample(0, 0, np.ones(10), 11)
    with pytest.raises(InputError, match="at least 1 client, not 0"):
        sample(0, 0, np.ones(10), 0)


def test_weighted_counts_only_clients_with_rows():
    with pytest.raises(InputError, match=r"cohort of 3 cannot .* from 2 clients"):
        WEIGHTED(0, 0, np.array([0, 5, 5]), 3)
