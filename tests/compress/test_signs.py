"""Signs, plain and noisy: values, expectations, states of an array."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys

KEYS = Keys(jax.random.key(1), jax.random.key(2))
DRAWS = 20_000


def draws(stage, vector, count=DRAWS, seed=0):
    """C(x) under independent coins, float64 [count, ...]."""

    def one(key):
        coin = Keys(*jax.random.split(key))
        carrier, side, _ = stage.encode(vector, (), coin)
        return stage.decode(carrier, side, coin.shared)

    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(one))(keys), np.float64)


def meets(found, expected):
    """Means of values +-s: 7 standard errors and 20 draws, below 1e-9 for 100 means."""
    step = np.abs(found).max()
    margin = 7 * found.std(axis=0) / np.sqrt(len(found)) + 40 * step / len(found)
    return (np.abs(found.mean(axis=0) - expected) <= margin).all()


# sign


def test_sign_by_hand():
    x = jnp.array([[3.0, -1.0], [0.0, -4.0]])
    found = draws(compress.sign(), x, 2)
    np.testing.assert_array_equal(found[0], [[2, -2], [2, -2]])
    np.testing.assert_array_equal(found[1], found[0])
    ones = draws(compress.sign(scale="one"), x, 1)[0]
    np.testing.assert_array_equal(ones, [[1, -1], [1, -1]])


def test_what_sign_loses():
    """||x||**2 - ||x||_1**2 / n, for any vector; with equality to alpha for one-hot."""
    n = 40
    stage = compress.sign()
    rng = np.random.default_rng(0)
    for x in (np.eye(n)[7], rng.normal(size=n), rng.standard_cauchy(n)):
        x = x.astype(np.float32)
        power = np.sum(x.astype(np.float64) ** 2)
        expected = power - np.abs(x).sum(dtype=np.float64) ** 2 / n
        lost = np.sum((draws(stage, jnp.asarray(x), 1)[0] - x) ** 2)
        assert lost == pytest.approx(expected, rel=1e-5)
        assert lost <= (1 - stage.claims.alpha(n)) * power * (1 + 1e-6)


@pytest.mark.parametrize("stage", [compress.sign("one"), compress.z_sign()])
def test_zeros_and_broken_arrays_cost_two_bits(stage):
    for x, number in (([0.0, 0.0], 0), ([0.0, -2.0], 1), ([1.0, jnp.inf], 2)):
        x = jnp.asarray(x)
        _, side, _ = stage.encode(x, (), KEYS)
        assert int(side["scales"].symbols) == number
        assert int(wire.bits(side)) == 2 + 2
        found = np.asarray(stage.decode(None, side, KEYS.shared))
        assert [not found.any(), np.isfinite(found).all(), np.isnan(found).all()][
            number
        ]


# z_sign


@pytest.mark.parametrize(("sigma", "expected"), [(0.5, 0.598), (2, 0.960), (10, 0.998)])
def test_expectation_at_one_is_the_tabled_one(sigma, expected):
    """eta sigma erf(1 / (sigma sqrt 2)), printed with three digits."""
    exact = math.sqrt(math.pi / 2) * sigma * math.erf(1 / (sigma * math.sqrt(2)))
    assert exact == pytest.approx(expected, abs=6e-4)
    x = jnp.array([1.0, -1.0])
    found = draws(compress.z_sign(sigma), x)
    np.testing.assert_allclose(np.abs(found), math.sqrt(math.pi / 2) * sigma, rtol=1e-6)
    assert meets(found, [exact, -exact])


def test_noise_drawn_and_added_gives_the_same():
    """The definition: signs of elements plus noise, drawn by numpy, both kinds."""
    x = np.random.default_rng(0).normal(size=20).astype(np.float32)
    rng = np.random.default_rng(1)
    for noise, xi, eta in (
        ("gaussian", rng.normal(size=(DRAWS, 20)), math.sqrt(math.pi / 2)),
        ("uniform", rng.uniform(-1, 1, (DRAWS, 20)), 1.0),
    ):
        other = eta * 0.8 * np.sign(x + 0.8 * xi)
        found = draws(compress.z_sign(0.8, noise), jnp.asarray(x))
        np.testing.assert_allclose(np.abs(found), eta * 0.8, rtol=1e-6)
        spread = np.sqrt((found.var(axis=0) + other.var(axis=0)) / DRAWS)
        margin = 7 * spread + 40 * eta / DRAWS
        assert (np.abs(found.mean(axis=0) - other.mean(axis=0)) <= margin).all()


def test_uniform_noise_that_covers_the_elements_is_unbiased():
    x = jnp.asarray([0.9, -0.3, 0.0, 0.5], jnp.float32)
    assert meets(draws(compress.z_sign(1.0, "uniform"), x), np.asarray(x))
    covered = draws(compress.z_sign(1.0, "uniform", "max"), 7 * x)
    np.testing.assert_allclose(np.abs(covered), 6.3, rtol=1e-6)
    assert (covered[:, 0] > 0).all()
    assert meets(covered, 7 * np.asarray(x))


def test_noise_relative_to_the_array():
    x = jnp.asarray([3.0, -4.0, 0.0, 0.0], jnp.float32)
    rms = draws(compress.z_sign(2.0, "uniform", "rms"), x, 3)
    np.testing.assert_allclose(np.abs(rms), 2 * 2.5, rtol=1e-6)
    huge = draws(compress.z_sign(1.0, "gaussian", "rms"), x * 1e37, 2000)
    expected = math.sqrt(math.pi / 2) * 2.5e37 * math.erf(1.2 / math.sqrt(2))
    assert meets(huge[:, 0], expected)


def test_only_what_is_exact_is_claimed():
    claimed = compress.z_sign(1.5, "uniform", "max").claims
    assert claimed.unbiased
    assert claimed.omega(10) == 10 * 1.5**2 - 1
    for options in (
        (0.9, "uniform", "max"),
        (1.0, "uniform"),
        (1.0, "gaussian", "max"),
    ):
        assert not compress.z_sign(*options).claims.unbiased


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), float("nan")])
def test_sigma_out_of_range(sigma):
    with pytest.raises(InputError, match="sigma must be finite and above 0"):
        compress.z_sign(sigma)
