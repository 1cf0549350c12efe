"""1-bit SGD's quantizer against plain numpy, and what its means keep."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.typing import Keys

KEYS = Keys(jax.random.key(1), jax.random.key(2))


def through(stage, array):
    """The decoded array."""

    def run(array):
        carrier, side, _ = stage.encode(array, (), KEYS)
        return stage.decode(carrier, side, KEYS.shared)

    return np.asarray(jax.jit(run)(jnp.asarray(array)), np.float64)


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_column(x, mean_threshold=False):
    """The method, column by column of a matrix, in float64."""
    x = x.astype(np.float64)
    out = np.empty_like(x)
    for j in range(x.shape[1]):
        column = x[:, j]
        middle = column.mean() if mean_threshold else 0.0
        upper = column >= middle
        if mean_threshold:
            spread = np.abs(column - middle).mean()
            out[:, j] = np.where(upper, middle + spread, middle - spread)
        else:
            high = column[upper].mean() if upper.any() else 0.0
            low = column[~upper].mean() if (~upper).any() else 0.0
            out[:, j] = np.where(upper, high, low)
    return out


@pytest.mark.parametrize("threshold", ["zero", "mean"])
@pytest.mark.parametrize("shape", [(20, 6), (3, 3, 4, 5), (1, 7)])
def test_columns_are_what_an_output_takes_in(shape, threshold):
    x = gaussian(*shape) + 0.3
    expected = by_column(x.reshape(-1, shape[-1]), threshold == "mean")
    found = through(compress.one_bit(threshold=threshold), x)
    np.testing.assert_allclose(found, expected.reshape(shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"columns": False}])
def test_short_arrays_and_single_columns(options):
    for x in (gaussian(30), gaussian(), gaussian(6, 5)):
        if x.ndim == 2 and options == {}:
            continue
        expected = by_column(x.reshape(-1, 1)).reshape(x.shape)
        found = through(compress.one_bit(**options), x)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_bits_and_scales_of_a_matrix():
    x = gaussian(20, 6)
    for stage, scales in ((compress.one_bit(), 6), (compress.one_bit(False), 1)):
        side = jax.jit(lambda x, s=stage: s.encode(x, (), KEYS)[1])(x)
        assert int(wire.bits(side)) == 120 + 64 * scales
        np.testing.assert_array_equal(side["symbols"].symbols, x >= 0)


def test_residuals_of_error_feedback_have_column_sums_of_zero():
    """The paper's method, over rounds: each column's sum has arrived in full."""
    method = compress.parse("error_feedback(one_bit)")
    state = method.init(jnp.zeros((50, 4)))
    step = jax.jit(lambda x, s: method.encode(x, s, KEYS)[1])
    for seed in range(5):
        state = step(jnp.asarray(gaussian(50, 4, seed=seed) + 0.5), state)
    residual = np.asarray(state["residual"], np.float64)
    assert np.abs(residual).max() > 0.1
    np.testing.assert_allclose(residual.sum(axis=0), 0, atol=1e-4)


def test_two_values_a_column_which_stay():
    once = through(compress.one_bit(), gaussian(40, 5))
    assert all(len(np.unique(column)) == 2 for column in once.T)
    twice = through(compress.one_bit(), once.astype(np.float32))
    np.testing.assert_allclose(twice, once, rtol=1e-6)


def test_empty_classes_have_no_mean_and_zero_is_upper():
    x = np.array([[1, -1, 0, 0], [3, -3, 0, -2], [5, -5, 0, 4]], np.float32)
    found = through(compress.one_bit(), x)
    expected = [[3, -3, 0, 2], [3, -3, 0, -2], [3, -3, 0, 2]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_broken_column_spoils_no_other():
    x = gaussian(6, 3)
    x[2, 1] = np.nan
    found = through(compress.one_bit(), x)
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2]]).all()


@pytest.mark.parametrize("threshold", ["zero", "mean"])
def test_contraction_on_adversarial_vectors(threshold):
    """A single element keeps exactly 1 / n; no vector keeps less."""
    n = 32
    stage = compress.one_bit(threshold=threshold)
    heavy = np.random.default_rng(0).standard_cauchy((40, n))
    vectors = [np.eye(n), -np.eye(n), np.ones((1, n)), heavy]
    # As columns of one matrix, so that it compiles once.
    x = np.concatenate(vectors).T.astype(np.float32)
    lost = np.sum((through(stage, x) - x) ** 2, axis=0)
    power = np.sum(x.astype(np.float64) ** 2, axis=0)
    assert (lost <= (1 - stage.claims.alpha(n)) * power * (1 + 1e-6)).all()
    if threshold == "zero":
        np.testing.assert_allclose(lost[:n], 1 - 1 / n, rtol=1e-5)


@pytest.mark.parametrize("threshold", ["zero", "mean"])
def test_gaussian_columns_lose_1_minus_2_over_pi(threshold):
    """100,000 elements: the standard error is about 0.001; 2 % is 7 of them."""
    x = gaussian(1000, 100)
    found = through(compress.one_bit(threshold=threshold, columns=False), x)
    lost = np.sum((found - x) ** 2) / np.sum(x.astype(np.float64) ** 2)
    assert lost == pytest.approx(1 - 2 / np.pi, rel=0.02)
