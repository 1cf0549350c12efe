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
from fedjax_compress.typing import Coin

X = np.random.default_rng(0).normal(size=256).astype(np.float32)
COIN = Coin(jax.random.key(0), jax.random.key(1))
ROUNDINGS = {jnp.bfloat16: "reduce_precision", jnp.float16: "optimization_barrier"}


def arrival(specification):
    """A tree -> what arrives, and the state: the message itself is not asked for."""
    compressor = compress.parse(specification)

    def run(values):
        payload, state = compressor.encode(values, compressor.init(values), COIN)
        return compressor.decode(payload, tree.shapes(values), COIN.shared), state

    return run


@pytest.mark.parametrize("dtype", ROUNDINGS)
@pytest.mark.parametrize("own", [True, False])
def test_rounding_is_no_pair_of_casts(dtype, own):
    """By the stage ``cast``, or because the leaf itself is short."""
    name = jnp.dtype(dtype).name
    specification = f"cast({name})" if own else "error_feedback(identity)"
    values = {"x": jnp.asarray(X, jnp.float32 if own else dtype)}
    run = arrival(specification)
    assert ROUNDINGS[dtype] in jax.jit(run).lower(values).as_text()
    found = np.asarray(jax.jit(run)(values)[0]["x"], np.float32)
    np.testing.assert_array_equal(found, X.astype(dtype).astype(np.float32))


def test_feedback_keeps_what_the_dtype_cannot_hold():
    values = {"x": jnp.asarray(X)}
    arrived, state = jax.jit(arrival("error_feedback(cast(bfloat16))"))(values)
    (residual,) = jax.tree.leaves(state)
    assert np.abs(residual).max() > 1e-4
    np.testing.assert_array_equal(np.asarray(arrived["x"]) + residual, X)
