"""Patterns partition a tensor into the units that their names promise."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import prune, registry
from fedjax_compress.errors import InputError, SpecError

TEXTS = (
    "unstructured",
    "row",
    "column",
    "half_row",
    "half_column",
    "block(rows=2, columns=3)",
    "channel",
    "n_of_m(n=2, m=4)",
)
SHAPES = ((5, 3), (1, 1), (3, 2, 2, 5), (7,), (2, 1, 4))


def numbered(shape):
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def members(pattern, shape):
    """For each unit in C order, the sorted numbers of its elements."""
    units = pattern.units(shape)
    count = int(np.prod(units))
    grow = jax.jit(jax.vmap(lambda m: pattern.spread(m, shape)))
    masks = np.asarray(grow(np.eye(count, dtype=bool).reshape(count, *units)))
    return [numbered(shape)[m].tolist() for m in masks]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("text", TEXTS)
def test_units_partition_the_elements(text, shape):
    pattern = registry.build("pattern", text)
    units = pattern.units(shape)
    found = members(pattern, shape)
    assert sorted(n for unit in found for n in unit) == list(range(int(np.prod(shape))))
    sizes = np.asarray(jax.jit(functools.partial(pattern.sizes, shape))())
    assert sizes.shape == units
    assert sizes.dtype == np.int32
    assert sizes.ravel().tolist() == [len(f) for f in found]
    assert min(sizes.ravel()) >= 1
    values = numbered(shape)
    total = np.asarray(jax.jit(pattern.total)(values))
    assert total.shape == units
    assert total.ravel().tolist() == [sum(f) for f in found]


def test_units_of_a_matrix_by_hand():
    """A kernel [inputs, outputs] of 0 .. 7: W is its transpose, with 2 rows."""
    expected = {
        "row": [[0, 2, 4, 6], [1, 3, 5, 7]],
        "column": [[0, 1], [2, 3], [4, 5], [6, 7]],
        "half_row": [[0, 2], [1, 3], [4, 6], [5, 7]],
        "half_column": [[i] for i in range(8)],
        "channel": [[0, 1], [2, 3], [4, 5], [6, 7]],
        "block(rows=2, columns=3)": [[0, 1, 2, 3, 4, 5], [6, 7]],
    }
    for text, units in expected.items():
        assert members(registry.build("pattern", text), (4, 2)) == units, text


def test_units_of_a_convolution_by_hand():
    """Kernel [2 places, 2 inputs, 3 outputs]: element 6 p + 3 i + o."""
    shape = (2, 1, 2, 3)
    assert members(prune.channel(), shape) == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]
    assert members(prune.column(), shape)[1:3] == [[3, 4, 5], [6, 7, 8]]
    assert members(prune.row(), shape)[2] == [2, 5, 8, 11]
    halves = members(prune.half_column(), shape)
    assert halves[:2] == [[0, 1], [2]]
    assert members(prune.half_row(), shape)[:3] == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("n", "m", "fan_in"),
    [(2, 4, 8), (2, 4, 11), (1, 3, 7), (3, 5, 4), (2, 2, 3), (1, 1, 2)],
)
def test_n_of_m_keeps_the_largest_of_each_group(n, m, fan_in):
    """Few different scores, so that many are equal: then the first stay."""
    scores = np.random.default_rng(0).integers(0, 4, (20, fan_in, 3))
    expected = np.zeros(scores.shape, bool)
    for case, column in np.ndindex(20, 3):
        for start in range(0, fan_in, m):
            group = scores[case, start : start + m, column]
            best = np.argsort(-group, kind="stable")[: -(-len(group) * n // m)]
            expected[case, start + best, column] = True
    choose = jax.jit(jax.vmap(prune.n_of_m(n, m).choose))
    np.testing.assert_array_equal(choose(np.float32(scores)), expected)


def test_only_kernels_are_prunable():
    params = {
        "conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)},
        "norm": {"scale": jnp.ones(2)},
        "none": jnp.ones((0, 3)),
    }
    chosen = prune.prunable(params)
    assert chosen == {
        "conv": {"kernel": True, "bias": False},
        "norm": {"scale": False},
        "none": False,
    }
    part = prune.part(params, chosen)
    assert part["conv"]["bias"] is None
    assert [x.shape for x in jax.tree.leaves(part)] == [(3, 3, 1, 2)]


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        prune.block(0, 2)
    for n, m in ((0, 4), (5, 4), (2, 65)):
        with pytest.raises(InputError, match="1 <= n <= m <= 64"):
            prune.n_of_m(n, m)
    with pytest.raises(SpecError, match="did you mean 'column'"):
        registry.build("pattern", "colum")


def test_n_of_m_folds_a_convolution():
    """Along the fan-in of each output, inputs fastest: here 2 places of 2 inputs."""
    scores = np.float32([[[[5], [1]]], [[[2], [3]]]])
    assert prune.n_of_m(1, 4).choose(scores).ravel().tolist() == [True] + [False] * 3
    assert prune.n_of_m(1, 2).choose(scores).ravel().tolist() == [
        True,
        False,
        False,
        True,
    ]
