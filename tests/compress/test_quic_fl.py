"""QUIC-FL: levels, plain numpy on the rotated vector, what is exact, errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fedjax_compress import compress, wire
from fedjax_compress.compress.normal_levels import unbiased_levels
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys

LIMIT = scipy.stats.norm.isf(1 / 1024)


def variance(levels):
    """Of unbiased rounding of N(0, 1) within the levels, by quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    low, high = levels[:-1, None], levels[1:, None]
    z = low + (high - low) * (nodes + 1) / 2
    mass = weights * (high - low) / 2 * scipy.stats.norm.pdf(z)
    return (mass * (z - low) * (high - z)).sum()


@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_have_the_least_variance(bits):
    """Symmetric, from -T to T; moving any inner level either way makes it worse."""
    levels = unbiased_levels(bits)
    assert len(levels) == 2**bits
    assert (np.diff(levels) > 0).all()
    np.testing.assert_array_equal(levels, -levels[::-1])
    assert levels[-1] == pytest.approx(LIMIT, rel=1e-9)
    assert pytest.approx(3.097, abs=1e-3) == LIMIT
    least = variance(levels)
    inner = range(1, 2**bits - 1, max(1, 2**bits // 8))
    for i in inner:
        for move in (-0.05, 0.05):
            other = levels.copy()
            other[i] += move * (levels[i + 1] - levels[i - 1])
            assert variance(other) > least


def draws(stage, vector, count, seed=0):
    """C(x) under independent coins, float32 [count, n]."""

    def one(key):
        coin = Keys(*jax.random.split(key))
        carrier, side, _ = stage.encode(vector, (), coin)
        return stage.decode(carrier, side, coin.shared)

    keys = jax.random.split(jax.random.key(seed), count)
    return jax.jit(jax.vmap(one))(keys)


def test_it_equals_numpy_on_the_rotated_vector():
    """Norm, exact elements, and the two neighbours of all others, in float64."""
    n, bits, coin = 4096, 2, Keys(jax.random.key(1), jax.random.key(2))
    x = np.random.default_rng(0).lognormal(size=n).astype(np.float32)
    stage = compress.quic_fl(bits)
    y = np.asarray(compress.hadamard().encode(jnp.asarray(x), (), coin)[0], np.float64)
    unit = np.sqrt(np.mean(y**2))  # of the one block
    z = y / unit
    side = jax.jit(lambda x: stage.encode(x, (), coin)[1])(x)
    np.testing.assert_allclose(side["scales"].symbols, unit, rtol=1e-5)
    large = np.abs(z) > LIMIT
    assert 0 < large.sum() < 40
    np.testing.assert_allclose(
        side["large"].symbols, np.where(large, z, 0), rtol=1e-4, atol=1e-4
    )
    levels = unbiased_levels(bits)
    sent = levels[np.asarray(side["symbols"].symbols)][~large]
    below = np.searchsorted(levels, z[~large]) - 1
    assert ((sent == levels[below]) | (sent == levels[below + 1])).all()
    assert 0.1 < np.mean(sent == levels[below]) < 0.9
    # Bits: two an element, norm, count, and for each large one a value and its place.
    extra = int(wire.bits(side)) - 2 * n - 32 - 13
    assert 32 * large.sum() < extra < 50 * large.sum()
    again = wire.unpack(wire.pack(side), side)
    jax.tree.map(np.testing.assert_array_equal, again, side)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_error_is_the_expected_one(bits):
    """By quadrature, 8.597 with one bit. 2 %, n = 2**14, 40 draws.

    The relative spread of one message's error is below sqrt(3 / n), 1.4 %.
    """
    x = np.random.default_rng(0).lognormal(size=2**14).astype(np.float32)
    found = np.asarray(draws(compress.quic_fl(bits), jnp.asarray(x), 40), np.float64)
    measured = ((found - x) ** 2).sum(axis=1).mean() / np.sum(x.astype(np.float64) ** 2)
    expected = variance(unbiased_levels(bits))
    if bits == 1:  # E (T^2 - z^2) within T, in closed form
        within = 1 - 1 / 512
        tails = 2 * LIMIT * scipy.stats.norm.pdf(LIMIT)
        assert expected == pytest.approx(LIMIT**2 * within - (within - tails), rel=1e-9)
        assert expected == pytest.approx(8.597, abs=5e-4)
    assert measured == pytest.approx(expected, rel=0.02)


def test_unbiased_for_every_rotation():
    """One shared key, 5000 private ones: 7 standard errors, below 1e-9 for 13 means."""
    x = np.random.default_rng(0).lognormal(size=13).astype(np.float32)
    stage, shared = compress.quic_fl(1), jax.random.key(3)

    def one(key):
        carrier, side, _ = stage.encode(jnp.asarray(x), (), Keys(key, shared))
        return stage.decode(carrier, side, shared)

    keys = jax.random.split(jax.random.key(4), 5000)
    found = np.asarray(jax.jit(jax.vmap(one))(keys), np.float64)
    margin = 7 * found.std(axis=0) / np.sqrt(5000)
    assert (np.abs(found.mean(axis=0) - x) < margin).all()


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_out_of_range(bits):
    with pytest.raises(InputError, match="bits must be 1 to 8"):
        compress.quic_fl(bits)
