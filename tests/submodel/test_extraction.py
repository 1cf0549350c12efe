"""Cutting and putting back against plain indexing; counts; the scale."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from fedjax_compress import registry, submodel, tree
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Cuts, Task, Tie

GROUPS = {"a": 5, "b": 4}
TIES = {
    "v": (Tie("b", outer=3),),
    "w": (Tie("a", outer=2, inner=3), None, Tie("b")),
    "x/y": (Tie("a"), Tie("a", inner=2)),
    "z": (None, None),
}
KEPT = {"a": [0, 2, 3], "b": [1, 3]}


def cuts_of(groups=GROUPS, ties=TIES):
    return Cuts(groups, ties, lambda counts: None)


def made_params(clients=()):
    rng = np.random.default_rng(1)
    shapes = {"v": (12,), "w": (30, 7, 4), "x": {"y": (5, 10)}, "z": (2, 3)}
    return jax.tree.map(
        lambda s: rng.normal(size=(*clients, *s)).astype(np.float32),
        shapes,
        is_leaf=lambda s: isinstance(s, tuple),
    )


def indices(tie, length):
    """Elements of an axis that belong to kept units, by the definition of a tie."""
    if tie is None:
        return np.arange(length)
    return np.array(
        [
            (o * GROUPS[tie.group] + u) * tie.inner + i
            for o in range(tie.outer)
            for u in KEPT[tie.group]
            for i in range(tie.inner)
        ]
    )


def as_arrays(kept):
    return {name: np.array(units, np.int32) for name, units in kept.items()}


def grids(params):
    leaves = zip(tree.paths(params), jax.tree.leaves(params), strict=True)
    for path, leaf in leaves:
        axes = zip(TIES[path], leaf.shape, strict=True)
        yield leaf, np.ix_(*(indices(tie, n) for tie, n in axes))


def test_cutting_equals_indexing():
    params = made_params()

    @jax.jit
    def both(params, kept):
        part = submodel.extract(params, cuts_of(), kept)
        whole = submodel.scatter(part, cuts_of(), kept, params)
        return part, whole, submodel.held(cuts_of(), kept, params)

    part, whole, held = both(params, as_arrays(KEPT))
    trees = (jax.tree.leaves(t) for t in (part, whole, held))
    for (leaf, grid), small, back, mask in zip(grids(params), *trees, strict=True):
        np.testing.assert_array_equal(small, leaf[grid])
        wanted = np.zeros_like(leaf)
        wanted[grid] = 1
        np.testing.assert_array_equal(mask, wanted)
        np.testing.assert_array_equal(back, wanted * leaf)


def test_clients_together_equal_clients_one_by_one():
    params = made_params((3,))
    kept = as_arrays({"a": [[0, 1], [2, 4], [1, 3]], "b": [[0], [3], [2]]})

    def work(params, kept):
        part = submodel.extract(params, cuts_of(), kept)
        back = submodel.scatter(part, cuts_of(), kept, params)
        return part, back, submodel.held(cuts_of(), kept, params)

    together, one = jax.device_get(jax.jit(jax.vmap(work))(params, kept)), jax.jit(work)
    for i in range(3):
        mine = one(*jax.tree.map(lambda x, i=i: x[i], (params, kept)))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), together, mine
        )


def test_shapes_are_enough_and_dtypes_stay():
    """Counters go through as they are; masks are float32."""
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, np.int32), made_params()
    )

    def work(params):
        part = submodel.extract(params, cuts_of(), as_arrays(KEPT))
        whole = submodel.scatter(part, cuts_of(), as_arrays(KEPT), like)
        return part, whole, submodel.held(cuts_of(), as_arrays(KEPT), like)

    part, whole, held = jax.eval_shape(work, like)
    assert whole == like
    assert {x.dtype for x in jax.tree.leaves(part)} == {np.dtype(np.int32)}
    assert held == tree.shapes(made_params())


@pytest.mark.parametrize(
    ("rate", "units", "count"),
    [
        (0.75, 32, 24),
        (0.75, 64, 48),
        (0.75, 2048, 1536),
        (0.625, 512, 320),
        (0.5, 5, 3),
        (0.25, 10, 3),
        (0.29, 50, 15),
        (0.35, 10, 4),
        (0.49, 1, 1),
        (1 / 16, 3, 1),
        (1e-9, 2048, 1),
        (1.0, 7, 7),
        (0.999, 10, 10),
    ],
)
def test_counts(rate, units, count):
    assert submodel.counts(cuts_of({"a": units}), rate) == {"a": count}


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.0001, float("nan"), float("inf")])
def test_a_keep_rate_out_of_range_is_refused(rate):
    with pytest.raises(InputError, match="keep_rate must be above 0") as caught:
        submodel.counts(cuts_of(), rate)
    assert "\n" not in str(caught.value)


def test_inverse_scale_is_of_what_layers_read():
    params = made_params()
    scaled = jax.jit(submodel.inverse_scale(cuts_of(), {"a": 2, "b": 1}))(params)
    factors = {"v": 1.0, "w": 2.5, "x": {"y": 2.5}, "z": 1.0}
    jax.tree.map(
        lambda found, p, f: np.testing.assert_allclose(found, p * f, rtol=1e-6),
        scaled, params, factors,
    )  # fmt: skip


def test_inverse_scale_makes_the_mean_over_submodels_right(case):
    """One hidden layer: over all 10 choices of 3 of 5 units, the mean is the whole."""
    model, cuts, params, columns = case("mlp(hidden=(5,))", Task((6,), 3))
    counts = {"dense_1": 3}
    small = cuts.narrow(counts)
    every = np.array(list(itertools.combinations(range(5), 3)), np.int32)

    @jax.jit
    @jax.vmap
    def outputs(kept):
        part = submodel.extract(params, cuts, {"dense_1": kept})
        return small.apply(submodel.inverse_scale(cuts, counts)(part), columns, None)

    mean = np.asarray(outputs(every)).mean(axis=0)
    whole = model.apply(params, columns, None)
    np.testing.assert_allclose(mean, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "task", "rate", "count"),
    [
        # 25 n + n, 25 n m + m, 49 m d + d, 10 d + 10 for n, m, d of 32, 64, 512.
        ("cnn", Task((28, 28), 10), 1.0, 1_663_370),
        (
            "cnn",
            Task((28, 28), 10),
            0.75,
            26 * 24 + 25 * 24 * 48 + 48 + 49 * 48 * 384 + 384 + 3_850,
        ),
        ("cnn(dense=2048)", Task((28, 28), 62), 1.0, 6_603_710),
        (
            "emnist_cnn",
            Task((28, 28), 62),
            0.5,
            10 * 16 + 9 * 16 * 32 + 32 + 144 * 32 * 64 + 64 + 65 * 62,
        ),
        (
            "char_lstm",
            Task((80,), 90, tokens=True),
            0.5,
            90 * 4 + 4 * 128 * (4 + 128 + 1) + 4 * 128 * (256 + 1) + 129 * 90,
        ),
        ("mlp(hidden=(200, 200))", Task((28, 28), 10), 0.1, 785 * 20 + 420 + 210),
    ],
)
def test_number_of_parameters(text, task, rate, count):
    cuts = registry.build("model", text, task).cuts
    narrow = cuts.narrow(submodel.counts(cuts, rate))
    assert tree.count(jax.eval_shape(narrow.init, jax.random.key(0))) == count
