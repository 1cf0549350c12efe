"""Ramps start at 0, never fall, and end at their target."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import prune, registry
from fedjax_compress.errors import InputError

ROUNDS = np.arange(60, dtype=np.int32)


def curve(text):
    ramp = registry.build("sparsity", text)
    return np.asarray(jax.jit(jax.vmap(ramp.at))(ROUNDS)), ramp


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("one_shot(0.7)", 0),
        ("one_shot(0.7, at=9)", 9),
        ("iterative(0.7, steps=5, every=7)", 35),
        ("cubic(0.7, begin=3, end=40)", 40),
    ],
)
def test_a_ramp_reaches_its_target(text, end):
    found, ramp = curve(text)
    assert found.dtype == np.float32
    assert (ramp.end, ramp.target) == (end, 0.7)
    assert np.all(np.diff(found) >= 0)
    np.testing.assert_array_equal(found[end:], np.float32(0.7))
    assert np.all(found[:end] < np.float32(0.7))
    assert end == 0 or found[0] == 0
    assert ramp.at(end) == found[end]


def test_iterative_keeps_the_same_share_in_each_step():
    """1/16 kept in 4 steps: each halves what is left, from round 10 on."""
    found, _ = curve("iterative(0.9375, steps=4, every=10)")
    expected = [1 - 0.5 ** min(r // 10, 4) for r in ROUNDS]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_cubic_by_hand():
    """Half way, 1 - 1/8 of the target."""
    found, _ = curve("cubic(0.8, begin=10, end=30)")
    expected = [0, 0, 0.8 * (1 - 27 / 64), 0.7, 0.8]
    np.testing.assert_allclose(found[[5, 10, 15, 20, 30]], expected, rtol=1e-6)


def test_bad_options_are_refused():
    for build in (
        lambda: prune.one_shot(1.0),
        lambda: prune.iterative(-0.1, 2, 2),
        lambda: prune.cubic(float("nan"), 0, 2),
    ):
        with pytest.raises(InputError, match="target must be in"):
            build()
    with pytest.raises(InputError, match="at must be"):
        prune.one_shot(0.5, at=-1)
    with pytest.raises(InputError, match="steps must be"):
        prune.iterative(0.5, 0, 2)
    with pytest.raises(InputError, match="every must be"):
        prune.iterative(0.5, 2, 0)
    with pytest.raises(InputError, match="begin must be"):
        prune.cubic(0.5, -1, 2)
    with pytest.raises(InputError, match="end must be above"):
        prune.cubic(0.5, 2, 2)


def test_rounds_may_be_python_numbers():
    assert float(prune.cubic(0.5, 0, 2).at(2)) == 0.5
    assert float(prune.cubic(0.5, 0, 2).at(jnp.int32(2))) == 0.5
