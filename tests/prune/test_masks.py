"""Masks keep exact counts of the right units."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_compress import prune
from fedjax_compress.errors import InputError

PARAMS = {
    "bias": np.float32([1, 0]),
    "conv": np.arange(-12, 12, dtype=np.float32).reshape(2, 1, 3, 4),
    "dense": np.float32([[1, -2], [3, 0], [-5, 6]]),
}
PART = prune.part(PARAMS, prune.prunable(PARAMS))
MAKE = jax.jit(prune.make_mask)
REGROW = jax.jit(prune.regrow)
GLOBAL = jax.jit(prune.make_global_mask, static_argnames="theta")
TRACED = jax.jit(prune.make_global_mask)
FEW = st.lists(st.integers(0, 3), min_size=9, max_size=9)


def highest(values, among, count):
    """Positions of the largest, the first of equals, as a bool array."""
    order = [i for i in np.argsort(-np.array(values), kind="stable") if among[i]]
    found = np.zeros(len(values), bool)
    found[order[:count]] = True
    return found


@given(FEW, st.integers(0, 9), st.integers(0, 9))
def test_a_mask_keeps_exact_counts(values, one, other):
    scores = {"a": np.float32(values), "b": None, "c": np.float32(values)[::-1]}
    mask = MAKE(scores, np.int32([one, other]))
    everything = np.ones(9, bool)
    np.testing.assert_array_equal(mask["a"], highest(values, everything, one))
    np.testing.assert_array_equal(mask["c"], highest(values[::-1], everything, other))
    assert mask["b"] is None


def test_masks_map_over_clients():
    scores = {"a": np.random.default_rng(0).random((4, 9), np.float32)}
    counts = np.int32([[0], [3], [8], [9]])
    together = jax.jit(jax.vmap(prune.make_mask))(scores, counts)
    assert np.sum(together["a"], axis=1).tolist() == [0, 3, 8, 9]
    for i in range(4):
        one = MAKE({"a": scores["a"][i]}, counts[i])
        np.testing.assert_array_equal(together["a"][i], one["a"])


def test_a_pattern_that_chooses_does_not_look_at_counts():
    pattern = prune.n_of_m(1, 2)

    def choose(weights):
        scores = prune.unit_scores(prune.weight(), pattern, weights)
        return prune.make_mask(scores, np.int32([0, 0]), pattern)

    mask = jax.jit(choose)(PART)
    assert np.sum(mask["conv"]) == 12
    expected = [[False, True], [True, False], [True, True]]
    np.testing.assert_array_equal(mask["dense"], expected)


@pytest.mark.parametrize("theta", [0.0, 0.1, 0.3, 0.5, 0.7, 0.99])
def test_the_global_mask_is_the_sort_of_the_paper(theta):
    rng = np.random.default_rng(1)
    params = {
        "bias": rng.integers(-2, 3, 7).astype(np.float32),
        "kernel": rng.integers(-4, 5, (3, 5, 6)).astype(np.float32),
        "scalar": np.float32(2),
    }
    joined = np.concatenate([np.ravel(p) for p in jax.tree.leaves(params)])
    threshold = np.sort(np.abs(joined))[int(joined.size * theta)]
    mask = GLOBAL(params, theta=theta)
    for name, p in params.items():
        np.testing.assert_array_equal(mask[name], np.abs(p) >= threshold)
    traced = TRACED(params, jnp.float32(round(theta * 64) / 64))
    again = GLOBAL(params, theta=round(theta * 64) / 64)
    jax.tree.map(np.testing.assert_array_equal, traced, again)


def test_the_global_mask_by_hand():
    """Sorted: 0 1 2 3 4. theta 0.4 is place 2; equal magnitudes all stay."""
    params = {"b": np.float32([0, -3]), "w": np.float32([[1, 2, -4]])}
    mask = GLOBAL(params, theta=0.4)
    assert mask["b"].tolist() == [False, True]
    assert mask["w"].tolist() == [[False, True, True]]
    same = GLOBAL({"w": np.ones(4, np.float32)}, theta=0.5)
    assert same["w"].tolist() == [True] * 4
    for theta in (1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match="theta must be in"):
            prune.make_global_mask(params, theta)


def test_apply_zeroes_what_is_pruned_and_leaves_the_rest():
    pattern = prune.row()
    mask = {
        "bias": None,
        "conv": np.array([True, False, True, True]),
        "dense": np.array([False, True]),
    }
    found = jax.jit(lambda m, p: prune.apply(m, p, pattern))(mask, PARAMS)
    np.testing.assert_array_equal(found["bias"], PARAMS["bias"])
    conv = PARAMS["conv"].copy()
    conv[..., 1] = 0
    np.testing.assert_array_equal(found["conv"], conv)
    np.testing.assert_array_equal(found["dense"], [[0, -2], [0, 0], [0, 6]])
    grown = prune.spread(mask, PARAMS, pattern)
    assert grown["bias"] is None
    np.testing.assert_array_equal(grown["dense"], [[False, True]] * 3)


def test_a_spread_mask_is_a_mask_of_single_elements():
    pattern = prune.half_column()
    mask = jax.tree.map(jnp.zeros_like, prune.all_kept(PART, pattern))
    mask["conv"] = mask["conv"].at[2, 1].set(True)

    def both(mask):
        grown = prune.spread(mask, PARAMS, pattern)
        kept = prune.kept_elements(grown, PARAMS)
        return prune.apply(mask, PARAMS, pattern), prune.apply(grown, PARAMS), kept

    one, other, kept = jax.jit(both)(mask)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert one["conv"].ravel()[10:].tolist()[:2] == [-2, -1]
    assert kept.tolist() == [2, 0]


def test_apply_removes_even_what_is_not_finite():
    found = prune.apply({"w": np.array([False, True])}, {"w": np.float32([np.nan, 1])})
    assert found["w"].tolist() == [0, 1]


def test_density_counts_elements_not_units():
    pattern = prune.block(rows=2, columns=2)
    mask = prune.all_kept(PART, pattern)
    # The last tile of dense [3, 2] holds one input, two elements.
    mask["dense"] = np.array([[False], [True]])

    def counted(m):
        shares = prune.density(m, PARAMS, pattern)
        return shares, prune.kept_elements(m, PARAMS, pattern)

    found, kept = jax.jit(counted)(mask)
    assert found.leaves["bias"] is None
    np.testing.assert_allclose(found.leaves["dense"], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(found.overall, 26 / 30, rtol=1e-6)
    assert kept.tolist() == [24, 2]


@pytest.mark.parametrize("text", ["unstructured", "half_column", "channel"])
def test_sparsity_zero_keeps_everything(text):
    pattern = getattr(prune, text)()

    def masked(sparsity):
        scores = prune.unit_scores(prune.weight(), pattern, PART)
        units = [s.size for s in jax.tree.leaves(scores)]
        counts = prune.kept_counts(prune.uniform(sparsity, 2), units)
        mask = prune.make_mask(scores, counts, pattern)
        return mask, prune.apply(mask, PARAMS, pattern)

    mask, found = jax.jit(masked)(np.float32(0))
    jax.tree.map(np.testing.assert_array_equal, mask, prune.all_kept(PART, pattern))
    jax.tree.map(np.testing.assert_array_equal, found, PARAMS)


@given(st.lists(st.booleans(), min_size=9, max_size=9), FEW, FEW, st.integers(0, 10))
def test_regrow_drops_the_smallest_and_grows_the_highest(mask, sizes, scores, number):
    mask = np.array(mask)
    moved = min(number, mask.sum())
    stays = highest(sizes, mask, mask.sum() - moved)
    expected = stays | highest(scores, ~stays, moved)
    given = ({"a": mask}, {"a": np.float32(sizes)}, {"a": np.float32(scores)})
    found = np.asarray(REGROW(*given, np.int32(number))["a"])
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == mask.sum()


def test_regrow_takes_a_number_for_each_leaf():
    mask = {"a": np.array([True, True, False]), "b": np.array([True, True, False])}
    sizes = {k: np.float32([1, 2, 0]) for k in mask}
    scores = {k: np.float32([0, 0, 5]) for k in mask}
    found = REGROW(mask, sizes, scores, np.int32([0, 1]))
    assert found["a"].tolist() == [True, True, False]
    assert found["b"].tolist() == [False, True, True]


def test_union():
    one, other = np.array([True, False, False]), np.array([True, True, False])
    found = jax.jit(prune.union)({"a": one, "b": None}, {"a": other, "b": None})
    assert found["a"].tolist() == [True, True, False]


def test_a_mask_of_shapes_only():
    """Shapes are enough to spread a mask and to count what it keeps."""
    shapes = jax.eval_shape(lambda: PARAMS)
    mask = prune.all_kept(prune.part(shapes, prune.prunable(shapes)))
    assert prune.kept_elements(mask, shapes).tolist() == [24, 6]
    grown = jax.eval_shape(functools.partial(prune.spread, params=shapes), mask)
    assert grown["conv"].shape == (2, 1, 3, 4)
