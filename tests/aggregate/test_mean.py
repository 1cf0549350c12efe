"""The weighted mean on hand-computed cases."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import aggregate, tree

FIRST = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
SECOND = {"a": jnp.array([5.0, -2.0]), "b": jnp.array(1.0)}


def run(aggregator, *reports):
    accs = [aggregator.lift(update, weight) for update, weight in reports]
    total = accs[0]
    for acc in accs[1:]:
        total = tree.add(total, acc)
    return aggregator.finish(total)


def test_weighted_by_examples():
    found = run(aggregate.mean(), (FIRST, 1.0), (SECOND, 3.0))
    np.testing.assert_allclose(found["a"], [4.0, -1.0])
    np.testing.assert_allclose(found["b"], 1.5)


def test_uniform_ignores_sizes_but_not_dummies():
    mean = aggregate.mean(weight="uniform")
    found = run(mean, (FIRST, 1.0), (SECOND, 300.0), (FIRST, 0.0))
    np.testing.assert_allclose(found["a"], [3.0, 0.0])
    np.testing.assert_allclose(found["b"], 2.0)


def test_no_weight_gives_zero():
    found = run(aggregate.mean(), (FIRST, 0.0), (SECOND, 0.0))
    assert all(not np.any(x) for x in jax.tree.leaves(found))


def test_holders_only():
    """With a tree of masks each coordinate is averaged over those that hold it."""
    masks = {"a": jnp.array([1.0, 0.0]), "b": jnp.array(0.0)}
    ones = jax.tree.map(jnp.ones_like, FIRST)
    found = run(aggregate.mean(), (FIRST, masks), (SECOND, ones))
    np.testing.assert_allclose(found["a"], [3.0, -2.0])
    np.testing.assert_allclose(found["b"], 1.0)
    nobody = run(aggregate.mean(), (FIRST, masks), (SECOND, masks))
    np.testing.assert_allclose(nobody["a"], [3.0, 0.0])
