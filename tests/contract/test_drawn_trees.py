"""Counted bits equal packed ones, and messages come back, for trees that are drawn.

The shapes are fixed, so each specification compiles once; the values are drawn leaf by
leaf: every leaf may be zero, constant, one-hot, subnormal, huge, or mixed.
"""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from fedjax_compress import tree, wire

SHAPES = {
    "body": {"kernel": ((3, 4, 5), np.float32)},
    "head": ((7,), ml_dtypes.bfloat16),
    "scale": ((), np.float32),
}
"""Those of ``make_tree``: odd sizes, a scalar, a leaf in bfloat16."""


def drawn_array(draw, shape, dtype):
    n = int(np.prod(shape))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    normal = rng.normal(size=n)
    one_hot = np.zeros(n)
    one_hot[rng.integers(n)] = normal[0]
    values = draw(
        st.sampled_from(
            [
                normal,
                np.zeros(n),
                np.full(n, normal[0]),
                one_hot,
                1e-41 * normal,
                1e30 * normal,
                1e-30 * normal,
                np.where(rng.random(n) < 0.2, 1e30, 1e-41) * np.sign(normal),
                np.where(rng.random(n) < 0.9, 0, normal),
                np.round(normal),
            ]
        )
    )
    return jnp.asarray(values.reshape(shape).astype(dtype))


@st.composite
def trees(draw):
    """A tree of the shapes above."""
    is_leaf = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(lambda s: drawn_array(draw, *s), SHAPES, is_leaf=is_leaf)


def examine(case, values, keys):
    state = case.compressor.init(values)
    payload, _, _, bits, size, _ = case.round(values, state, keys)
    packed = wire.pack(payload)
    assert len(packed) == int(size) == -(-int(bits) // 8) + wire.HEADER_BYTES
    assert int(bits) == sum(s.bits for s in wire.field_sizes(payload))
    arrived = wire.unpack(packed, tree.shapes(payload))
    assert jax.tree.structure(arrived) == jax.tree.structure(payload)
    for x, y in zip(jax.tree.leaves(arrived), jax.tree.leaves(payload), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_shapes_are_those_of_the_other_tests(make_tree):
    found = jax.tree.map(lambda x: (x.shape, x.dtype.type), make_tree(0))
    assert found == SHAPES


def run(case, make_keys, examples):
    @hypothesis.settings(max_examples=examples)
    @hypothesis.given(trees(), st.integers(0, 9))
    def every(values, seed):
        examine(case, values, make_keys(seed))

    every()


def test_counted_bits_are_packed_ones_whatever_is_drawn(case, make_keys):
    run(case, make_keys, 8)


@pytest.mark.slow
def test_counted_bits_are_packed_ones_a_hundred_times(case, make_keys):
    run(case, make_keys, 150)
