"""DoReFa's quantizer of gradients: grid, extremes, probabilities.

Shares over D draws are met within 7 standard errors and 20 draws; for at most 100 of
them a false alarm has probability below 1e-9, rare events included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys

DRAWS = 5000


def draws(stage, vector, count=DRAWS, seed=0):
    """C(x) under independent coins, float64 [count, ...]."""

    def one(key):
        coin = Keys(*jax.random.split(key))
        carrier, side, _ = stage.encode(vector, (), coin)
        return stage.decode(carrier, side, coin.shared)

    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(one))(keys), np.float64)


def gaussian(n, seed=0):
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def dithered(x, bits, rng, count):
    """Equation 12 as it stands, float64 [count, n]."""
    m, steps = np.abs(x).max(), 2**bits - 1
    noise = rng.uniform(-0.5, 0.5, (count, x.size)) / steps
    r = np.clip(x / (2 * m) + 0.5 + noise, 0, 1)
    return 2 * m * (np.round(steps * r) / steps - 0.5)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_values_and_probabilities_are_those_of_the_equation(bits):
    """Grid exactly; means within 7 standard errors of both samples."""
    x = gaussian(40)
    found = draws(compress.dorefa_gradient(bits), jnp.asarray(x))
    other = dithered(x.astype(np.float64), bits, np.random.default_rng(1), DRAWS)
    m, steps = np.abs(x).max(), 2**bits - 1
    level = (found / m + 1) / 2 * steps
    np.testing.assert_allclose(level, np.round(level), atol=1e-4)
    assert level.min() > -1e-4
    assert level.max() < steps + 1e-4
    assert (np.abs(found - x) < 2 * m / steps * (1 + 1e-5)).all()
    width = 2 * m / steps
    spread = np.sqrt((found.var(axis=0) + other.var(axis=0)) / DRAWS)
    margin = 7 * spread + 20 * width / DRAWS
    assert (np.abs(found.mean(axis=0) - other.mean(axis=0)) <= margin).all()
    assert (np.abs(found.mean(axis=0) - x) <= margin).all()


def test_variance_is_exact():
    """(2 m / K)**2 p (1 - p) for a coordinate p steps above a level."""
    x = gaussian(40)
    wide = x.astype(np.float64)
    m = np.abs(wide).max()
    p = (wide / (2 * m) + 0.5) * 7 % 1
    p[np.abs(wide) == m] = 0
    expected = (2 * m / 7) ** 2 * p * (1 - p)
    squares = (draws(compress.dorefa_gradient(3), jnp.asarray(x)) - x) ** 2
    margin = 7 * squares.std(axis=0) / np.sqrt(DRAWS) + 20 * (2 * m / 7) ** 2 / DRAWS
    assert (np.abs(squares.mean(axis=0) - expected) <= margin).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 3e38])
def test_the_largest_element_is_exact_and_zero_is_not_on_the_grid(scale):
    x = jnp.asarray([0.0, -1.0, 0.25], jnp.float32) * scale
    found = draws(compress.dorefa_gradient(2), x, 50) / scale
    np.testing.assert_allclose(found[:, 1], -1, rtol=1e-6)
    np.testing.assert_allclose(np.unique(np.abs(found[:, 0])), 1 / 3, rtol=1e-5)


@pytest.mark.parametrize("bits", [0, 17])
def test_bits_out_of_range(bits):
    with pytest.raises(InputError, match="bits must be 1 to 16"):
        compress.dorefa_gradient(bits)
