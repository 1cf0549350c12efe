"""Gradient Dropping: which elements are sent, with how many bits, and what waits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sent import gaussian, rounds

from fedjax_compress import compress
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.99])
def test_dropping_equals_sorting(rate):
    updates = gaussian(10, 301)
    e = np.zeros(301, np.float32)
    for x, (decoded, residual, _) in zip(
        updates, rounds(f"gradient_dropping({rate}, sample=1)", updates), strict=True
    ):
        p = e + x
        dropped = int(301 * rate)
        limit = np.sort(np.abs(p))[dropped - 1] if dropped else 0
        np.testing.assert_array_equal(decoded, np.where(np.abs(p) > limit, p, 0))
        assert np.count_nonzero(decoded) == 301 - dropped
        assert not np.any((decoded != 0) & (residual != 0))
        e = residual


def test_dropping_bits():
    [(_, _, bits)] = rounds("gradient_dropping(0.9, sample=1)", [gaussian(1000)])
    assert bits == 10 + 100 * (10 + 32)


def test_dropping_with_a_sample():
    """The quantile of a sample of 1000 in 50 000, within 7 standard deviations.

    The share above it is beta distributed around 0.1 with deviation
    sqrt(0.9 * 0.1 / 1000) = 0.0095: a false alarm has probability below 1e-10.
    """
    x = gaussian(50_000)
    [(decoded, residual, _)] = rounds("gradient_dropping(0.9)", [x])
    assert abs(np.count_nonzero(decoded) / 50_000 - 0.1) < 7 * 0.0095
    assert np.abs(x[decoded != 0]).min() > np.abs(x[decoded == 0]).max()
    np.testing.assert_array_equal(decoded + residual, x)


def test_dropping_has_one_threshold_for_a_vector_and_one_for_each_leaf():
    """Local equals global for one leaf; of two scales, global starves the smaller."""
    x = gaussian(200)
    local, whole = (
        next(rounds(f"{lift}(gradient_dropping(0.9))", [x]))
        for lift in ("on_leaves", "on_vector")
    )
    np.testing.assert_array_equal(local[0], whole[0])
    compressor = compress.parse("on_vector(gradient_dropping(0.5))")
    tree = {"large": jnp.asarray(100 * (2 + x)), "small": jnp.asarray(0.001 * x)}
    keys = Keys(jax.random.key(0), jax.random.key(0))
    payload, _ = compressor.encode(tree, compressor.init(tree), keys)
    decoded = compressor.decode(payload, tree, keys.shared)
    assert not np.any(decoded["small"])


def test_dropping_never_sends_equal_elements():
    """As the paper's strict comparison has it; said in the documentation."""
    [(decoded, residual, _)] = rounds("gradient_dropping", [np.ones(200, np.float32)])
    assert not decoded.any()
    np.testing.assert_array_equal(residual, 1)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_rounded_values_by_hand(bits):
    """Cells of equal width between the least and the largest of a sign, by numpy."""
    updates = gaussian(5, 301)
    e = np.zeros(301, np.float32)
    text = f"gradient_dropping(0.8, sample=1, bits={bits})"
    for x, (decoded, residual, _) in zip(updates, rounds(text, updates), strict=True):
        p = e + x
        sent = np.abs(p) > np.sort(np.abs(p))[int(301 * 0.8) - 1]
        wanted = np.zeros(301)
        for side in (sent & (p > 0), sent & (p < 0)):
            size = np.abs(p[side].astype(np.float64))
            edges = np.linspace(size.min(), size.max(), 2 ** (bits - 1) + 1)
            cell = np.clip(np.digitize(size, edges) - 1, 0, 2 ** (bits - 1) - 1)
            means = {c: p[side][cell == c].mean() for c in np.unique(cell)}
            wanted[side] = [means[c] for c in cell]
        np.testing.assert_allclose(decoded, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(decoded + residual, p, rtol=1e-5, atol=1e-5)
        e = residual


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_rounded_values_cost_their_bits(bits):
    text = f"gradient_dropping(0.9, sample=1, bits={bits})"
    [(_, _, found)] = rounds(text, [gaussian(1000)])
    assert found == 10 + 100 * (10 + bits) + 32 * 2**bits


def test_values_of_one_sign_nothing_at_all_and_equal_ones():
    text = "gradient_dropping(0.5, sample=1, bits=2)"
    x = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.float32)
    [(decoded, _, _)] = rounds(text, [-x])
    np.testing.assert_allclose(decoded, [0, 0, -5, 0, -5, -9, 0, -5])
    [(decoded, residual, _)] = rounds(text, [np.zeros(8, np.float32)])
    assert not decoded.any()
    assert not residual.any()
    [(decoded, _, _)] = rounds(text, [np.repeat(np.float32([1, 2]), 4)])
    np.testing.assert_array_equal(decoded, [0, 0, 0, 0, 2, 2, 2, 2])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_update_arrives_broken(broken):
    x = gaussian(50)
    x[3] = broken
    [(decoded, _, _)] = rounds("gradient_dropping(0.8, sample=1, bits=2)", [x])
    assert not np.isfinite(decoded[3])


@pytest.mark.parametrize("bits", [0, 9, 16])
def test_bits_that_cannot_be(bits):
    with pytest.raises(InputError, match=f"1 to 8, or 32 .* not {bits}"):
        compress.parse(f"gradient_dropping(bits={bits})")
