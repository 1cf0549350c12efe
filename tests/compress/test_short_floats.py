"""What travels in 16 bits is rounded in the compiled program, too.

Where nobody looks at the message, a compiler may leave out a cast and the cast back,
and the receiver would see more digits than were sent.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, tree
from fedjax_compress.typing import Keys

X = np.random.default_rng(0).normal(size=256).astype(np.float32)
KEYS = Keys(jax.random.key(0), jax.random.key(1))
ROUNDINGS = {jnp.bfloat16: "reduce_precision", jnp.float16: "optimization_barrier"}


def arrival(specification):
    """A tree and a state -> what arrives, and the state after it.

    The message itself is not asked for.
    """
    compressor = compress.parse(specification)

    def run(values, state):
        payload, state = compressor.encode(values, state, KEYS)
        return compressor.decode(payload, tree.shapes(values), KEYS.shared), state

    return run, compressor.init


@pytest.mark.parametrize("dtype", ROUNDINGS)
def test_a_cast_is_no_pair_of_casts(dtype):
    run, init = arrival(f"cast({jnp.dtype(dtype).name})")
    values = {"x": jnp.asarray(X)}
    assert ROUNDINGS[dtype] in jax.jit(run).lower(values, init(values)).as_text()
    found = np.asarray(jax.jit(run)(values, init(values))[0]["x"])
    np.testing.assert_array_equal(found, X.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("dtype", ROUNDINGS)
def test_feedback_keeps_what_a_short_leaf_cannot_hold(dtype):
    """Residual and element together have more digits than the leaf."""
    run, _ = arrival("error_feedback(identity)")
    values, before = {"x": jnp.asarray(X, dtype)}, X[::-1] / 1000
    state = {"residual": {"x": jnp.asarray(before)}, "compressor": ()}
    assert ROUNDINGS[dtype] in jax.jit(run).lower(values, state).as_text()
    arrived, after = jax.jit(run)(values, state)
    due = before + np.asarray(values["x"], np.float32)
    expected = due.astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(arrived["x"], np.float32), expected)
    residual = after["residual"]["x"]
    np.testing.assert_array_equal(residual, due - expected)
    assert np.abs(residual).max() > 1e-5


def test_feedback_of_more_than_float16_holds_stays_finite():
    """60,000 and a residual of 10,000: 65,504 arrive, the rest is kept."""
    run, _ = arrival("error_feedback(identity)")
    values = {"x": jnp.asarray([60_000.0, -60_000.0, jnp.nan], jnp.float16)}
    before = {"x": jnp.asarray([10_000.0, -10_000.0, 0.0])}
    state = {"residual": before, "compressor": ()}
    arrived, after = jax.jit(run)(values, state)
    np.testing.assert_array_equal(arrived["x"], [65_504, -65_504, np.nan])
    rest = 70_000 - 65_504 + np.float32(np.float16(60_000)) - 60_000
    np.testing.assert_array_equal(after["residual"]["x"], [rest, -rest, np.nan])


@pytest.mark.parametrize(
    "specification",
    ["dgc(sparsity=0.5)", "gradient_dropping(0.5)", "dryden(0.5)", "adacomp(bin=4)"],
)
def test_residuals_of_more_than_float16_holds_stay_finite(specification):
    """60,000, and 10,000 in whatever the stage keeps."""
    run, init = arrival(specification)
    values = {"x": jnp.asarray([60_000.0, -60_000.0, *X[:30]], jnp.float16)}
    push = jnp.zeros(32).at[:2].set(jnp.asarray([10_000.0, -10_000.0]))
    state = jax.tree.map(lambda x: x + push if x.size == 32 else x, init(values))
    assert any(np.any(x) for x in jax.tree.leaves(state))
    arrived, after = jax.jit(run)(values, state)
    assert tree.all_finite((arrived, after))


def test_feedback_keeps_what_a_cast_loses():
    run, init = arrival("error_feedback(cast(bfloat16))")
    values = {"x": jnp.asarray(X)}
    arrived, state = jax.jit(run)(values, init(values))
    (residual,) = jax.tree.leaves(state)
    assert np.abs(residual).max() > 1e-4
    np.testing.assert_array_equal(np.asarray(arrived["x"]) + residual, X)
