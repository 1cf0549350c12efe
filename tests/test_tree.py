"""Small functions on trees."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import tree

A = {"x": jnp.array([1.0, 2.0]), "y": (jnp.array([[3.0]], jnp.bfloat16), ())}
B = {"x": jnp.array([0.5, -2.0]), "y": (jnp.array([[1.0]], jnp.bfloat16), ())}


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_add_and_subtract_undo_each_other():
    equal(tree.subtract(tree.add(A, B), B), A)
    equal(tree.subtract(A, A), tree.zeros_like(A))


def test_scale_keeps_the_dtype_of_each_leaf():
    equal(tree.scale(A, 2.0), tree.add(A, A))
    equal(tree.scale(A, jnp.float32(2)), tree.add(A, A))


def test_where_takes_one_or_the_other():
    equal(tree.where(jnp.array(True), A, B), A)
    equal(tree.where(jnp.array(False), A, B), B)


def test_shapes_and_zeros():
    shapes = tree.shapes(A)
    assert shapes["x"] == jax.ShapeDtypeStruct((2,), jnp.float32)
    equal(tree.zeros_like(shapes), tree.zeros_like(A))


def test_all_finite_sees_nan_and_infinity_anywhere():
    assert tree.all_finite(A)
    assert tree.all_finite({"i": jnp.array([1, 2])})
    assert tree.all_finite(())
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        leaf = jnp.array([[bad]], jnp.bfloat16)
        assert not tree.all_finite({**A, "y": (leaf, ())})


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("shape", [(0,), (), (37,), (5, 7, 16), (2, 1024)])
def test_all_finite_passes_the_largest_numbers_also_lane_by_lane(shape, dtype):
    largest = np.full(shape, jnp.finfo(dtype).max, dtype)
    assert tree.all_finite(jnp.asarray(largest))
    assert tree.all_finite(jnp.asarray(-largest))
    for place in {0, largest.size // 2, largest.size - 1} & {*range(largest.size)}:
        for bad in (np.nan, np.inf, -np.inf):
            array = largest.copy()
            array.flat[place] = bad
            assert not tree.all_finite(jnp.asarray(array))
            lanes = jnp.stack([largest, array, -largest])
            found = jax.jit(jax.vmap(tree.all_finite))(lanes)
            np.testing.assert_array_equal(found, [True, False, True])


def test_count_and_squared_norm():
    assert tree.count(A) == 3
    assert tree.count(()) == 0
    assert tree.squared_norm(A) == 1 + 4 + 9
    assert tree.squared_norm(()) == 0
    assert tree.squared_norm({"h": jnp.full(4, 300.0, jnp.float16)}) == 4 * 90_000


def test_paths_name_leaves_in_order():
    assert tree.paths(A) == ["x", "y/0"]
    assert tree.paths(jnp.zeros(())) == [""]


def test_sha256_depends_on_everything_that_is_stored():
    base = tree.sha256(A)
    assert base == tree.sha256(jax.tree.map(np.array, A))
    others = [
        B,
        {**A, "x": A["x"][::-1]},
        {**A, "x": A["x"].reshape(2, 1)},
        {**A, "x": A["x"].view(jnp.int32)},
        {"z": A["x"], "y": A["y"]},
    ]
    assert len({base, *map(tree.sha256, others)}) == 6
    column = np.arange(6.0).reshape(2, 3).T
    assert tree.sha256(column) == tree.sha256(np.ascontiguousarray(column))
