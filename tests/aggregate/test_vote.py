"""Majority votes on hand-computed cases."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import aggregate, registry, tree
from fedjax_compress.errors import InputError

VOTES = [
    ({"a": jnp.array([1e-9, 2.0, -3.0]), "b": jnp.array(0.0)}, 1.0),
    ({"a": jnp.array([1e9, -2.0, -3.0]), "b": jnp.array(5.0)}, 2.0),
    ({"a": jnp.array([-7.0, -2.0, 3.0]), "b": jnp.array(0.0)}, 4.0),
]


def run(aggregator, reports):
    accs = [aggregator.lift(update, weight) for update, weight in reports]
    total = accs[0]
    for acc in accs[1:]:
        total = tree.add(total, acc)
    return aggregator.finish(total)


def test_most_signs_win_whatever_their_size():
    found = run(aggregate.majority(), VOTES)
    np.testing.assert_array_equal(found["a"], [1, -1, -1])
    np.testing.assert_array_equal(found["b"], 1)


def test_votes_by_number_of_examples():
    found = run(aggregate.majority(step=0.5, weight="examples"), VOTES)
    np.testing.assert_array_equal(found["a"], [-0.5, -0.5, 0.5])


def test_ties_and_no_votes_give_zero():
    found = run(aggregate.majority(), [*VOTES[:2], (VOTES[2][0], 0.0)])
    np.testing.assert_array_equal(found["a"], [1, 0, -1])
    nobody = run(aggregate.majority(), [(VOTES[0][0], 0.0)])
    assert all(not np.any(x) for x in jax.tree.leaves(nobody))


def test_those_vote_that_hold_the_coordinate():
    masks = {"a": jnp.array([0.0, 1.0, 1.0]), "b": jnp.array(1.0)}
    ones = jax.tree.map(jnp.ones_like, masks)
    found = run(aggregate.majority(), [(VOTES[0][0], masks), (VOTES[2][0], ones)])
    np.testing.assert_array_equal(found["a"], [-1, 0, 0])


@pytest.mark.parametrize("step", [0.0, -1.0, float("inf"), float("nan")])
def test_steps_out_of_range(step):
    with pytest.raises(InputError, match="step must be finite and above 0"):
        aggregate.majority(step)


def test_it_has_a_name():
    found = run(registry.build("aggregate", "majority(step=2.0)"), VOTES)
    np.testing.assert_array_equal(found["a"], [2, -2, -2])
