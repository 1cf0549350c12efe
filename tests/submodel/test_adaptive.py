"""Adaptive Federated Dropout by hand, and the odds of its draws."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_compress import registry

SIZES, COUNTS = {"g": 4}, {"g": 2}
ALPHA = 1e-7


def kept(*units):
    return {"g": jnp.array(units, jnp.int32)}


def test_scores_of_a_client_by_hand():
    selector = registry.build("selector", "adaptive")
    credit = jax.jit(selector.credit)
    choose = jax.jit(
        lambda own, seed: selector.choose((), own, SIZES, COUNTS, jax.random.key(seed))
    )
    own = selector.client_init(SIZES)
    assert own.scores["g"].tolist() == [1, 1, 1, 1]
    own = credit(own, kept(0, 2), 2.0)  # the first loss has none to compare with
    assert own.scores["g"].tolist() == [1, 1, 1, 1]
    assert not own.again
    own = credit(own, kept(1, 3), 1.5)  # fell by a quarter
    assert own.scores["g"].tolist() == [1, 1.25, 1, 1.25]
    assert own.again
    for seed in range(5):
        assert choose(own, seed)["g"].tolist() == [1, 3]
    own = credit(own, kept(1, 3), 1.8)  # rose: no credit, and a new draw
    assert own.scores["g"].tolist() == [1, 1.25, 1, 1.25]
    assert not own.again
    assert len({tuple(choose(own, seed)["g"].tolist()) for seed in range(60)}) > 1
    own = credit(own, kept(0, 1), 0.9)  # half of the loss before, not of the best
    np.testing.assert_allclose(own.scores["g"], [1.5, 1.75, 1, 1.25], rtol=1e-6)
    assert own.again
    own = credit(own, kept(0, 1), 0.9)  # equal is not below
    assert not own.again


def test_one_map_for_all_by_hand():
    selector = registry.build("selector", "adaptive(per=round)")

    @jax.jit
    def begin(memory, seed):
        key = jax.random.key(seed)
        memory = selector.begin(memory, SIZES, COUNTS, key, jnp.array(seed))
        keys = jax.random.split(key, 3)
        choose = jax.vmap(lambda k: selector.choose(memory, (), SIZES, COUNTS, k))
        return memory, choose(keys)["g"]

    learn = jax.jit(selector.learn)
    memory, first = begin(selector.init(SIZES), 0)
    assert (first == first[:1]).all()
    memory, second = begin(learn(memory, 4.0), 1)
    memory = learn(memory, 3.0)
    wanted = np.ones(4)
    wanted[np.asarray(second[0])] += 0.25
    np.testing.assert_allclose(memory.scores["g"], wanted, rtol=1e-6)
    memory, third = begin(memory, 2)
    assert np.array_equal(second, third)
    memory = learn(memory, 5.0)
    np.testing.assert_allclose(memory.scores["g"], wanted, rtol=1e-6)
    drawn = {tuple(begin(memory, seed)[1][0].tolist()) for seed in range(60)}
    assert len(drawn) > 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_gives_no_credit(bad):
    selector = registry.build("selector", "adaptive")
    credit = jax.jit(selector.credit)
    own = credit(selector.client_init(SIZES), kept(0, 1), 2.0)
    own = credit(own, kept(0, 2), bad)
    assert not own.again
    own = credit(own, kept(1, 2), 1.0)
    assert own.scores["g"].tolist() == [1, 1, 1, 1]
    assert not own.again
    own = credit(own, kept(1, 2), 0.5)
    assert own.scores["g"].tolist() == [1, 1.5, 1.5, 1]


def test_a_loss_of_zero_is_no_division_by_zero():
    selector = registry.build("selector", "adaptive")
    own = selector.client_init(SIZES)
    for _ in range(3):
        own = selector.credit(own, kept(0, 1), 0.0)
    assert own.scores["g"].tolist() == [1, 1, 1, 1]


def test_draws_follow_the_scores():
    """Pairs of 4 units of scores 1 .. 4, drawn one after the other; 30,000 draws.

    P({i, j}) = s_i s_j / S (1 / (S - s_i) + 1 / (S - s_j)); chi-square with 5 degrees
    of freedom.
    """
    selector = registry.build("selector", "adaptive")
    scores = np.array([1.0, 2, 3, 4])
    own = selector.client_init(SIZES)
    own = own._replace(scores={"g": jnp.array(scores, jnp.float32)})
    draws, total = 30_000, scores.sum()

    @jax.jit
    @jax.vmap
    def choose(key):
        return selector.choose((), own, SIZES, COUNTS, key)["g"]

    found = np.asarray(choose(jax.random.split(jax.random.key(9), draws)))
    statistic = 0.0
    for i, j in itertools.combinations(range(4), 2):
        s, t = scores[i], scores[j]
        expected = draws * s * t / total * (1 / (total - s) + 1 / (total - t))
        seen = (found == [i, j]).all(axis=1).sum()
        statistic += (seen - expected) ** 2 / expected
    assert statistic < stats.chi2.isf(ALPHA, 5)
