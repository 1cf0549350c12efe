"""TernGrad against plain numpy: scale, grid, probabilities, variance.

Shares over D draws are met within 7 standard errors and 20 draws; for at most 100 of
them a false alarm has probability below 1e-9, rare events included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Claims, Keys

DRAWS = 5000


def draws(stage, vector, count=DRAWS, seed=0):
    """C(x) under independent coins, float64 [count, ...]."""

    def one(key):
        coin = Keys(*jax.random.split(key))
        carrier, side, _ = stage.encode(vector, (), coin)
        return stage.decode(carrier, side, coin.shared)

    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(one))(keys), np.float64)


def heavy(n, seed=0):
    return np.random.default_rng(seed).standard_t(3, n).astype(np.float32)


def ternary(x, clip, scaler):
    """The clipped array, its scale, and each element's probability, in float64."""
    x = x.astype(np.float64)
    bound = clip * np.sqrt(np.mean((x - x.mean()) ** 2)) if clip else np.inf
    g = np.clip(x, -bound, bound)
    s = bound if scaler == "sigma" else np.abs(g).max()
    return g, s, np.abs(g) / s


@pytest.mark.parametrize(
    ("clip", "scaler"), [(2.5, "max"), (2.5, "sigma"), (0, "max"), (9, "sigma")]
)
def test_values_and_probabilities(clip, scaler):
    x = heavy(60) + np.float32(0.2)
    g, s, p = ternary(x, clip, scaler)
    found = draws(compress.terngrad(clip, scaler), jnp.asarray(x))
    np.testing.assert_allclose(np.abs(found)[found != 0], s, rtol=1e-5)
    assert (found * g >= 0).all()
    share = (found != 0).mean(axis=0)
    margin = 7 * np.sqrt(p * (1 - p) / DRAWS) + 20 / DRAWS
    assert (np.abs(share - p) <= margin).all()
    assert (share[p >= 1 - 1e-9] == 1).all()


def test_variance_is_exact_and_the_claim_is_tight():
    """s ||x||_1 - ||x||**2; (sqrt n - 1) / 2 of ||x||**2 for the worst vector."""
    n = 49
    x = np.full(n, 1 / (1 + np.sqrt(n)), np.float32)
    x[5] = 1
    power = np.sum(x.astype(np.float64) ** 2)
    expected = np.abs(x).sum() - power
    stage = compress.terngrad(clip=0)
    assert expected / power == pytest.approx(stage.claims.omega(n), rel=1e-5)
    squares = ((draws(stage, jnp.asarray(x)) - x) ** 2).sum(axis=1)
    margin = 7 * squares.std() / np.sqrt(DRAWS)
    assert abs(squares.mean() - expected) < margin


def test_clipping_at_2_5_sigma_keeps_98_8_percent_of_gaussians():
    """The mean of 20 draws of 200,000 elements, projected on them; noise 0.05 %."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=200_000), jnp.float32)
    found = draws(compress.terngrad(), x, 20).mean(axis=0)
    kept = found @ np.asarray(x) / float(jnp.sum(x**2))
    assert kept == pytest.approx(0.988, abs=0.004)
    assert compress.terngrad().claims == Claims(elementwise=True)


@pytest.mark.parametrize("x", [[0.7] * 33, [-3.0], [1e30, 1e30], [0.0, 0.0]])
def test_arrays_without_spread_are_not_clipped(x):
    x = jnp.asarray(x, jnp.float32)
    found = draws(compress.terngrad(), x, 5)
    np.testing.assert_allclose(found, np.broadcast_to(x, found.shape), rtol=1e-6)


def test_symbols_by_hand():
    x = jnp.array([1.0, -1.0, 0.0, 1.0, -1.0])
    coin = Keys(jax.random.key(1), jax.random.key(2))
    for code, bits in (("radix", 8), ("fixed", 10)):
        stage = compress.terngrad(clip=0, code=code)
        _, side, _ = stage.encode(x, (), coin)
        assert side["symbols"].symbols.tolist() == [1, 2, 0, 1, 2]
        assert side["scales"].symbols == 1
        assert int(wire.bits(side)) == bits + 32


def test_rotation_first():
    """Rotated, a heavy tail is Gaussian: max |y| E|y| / E y**2 - 1 = 0.8 * 3.2 - 1.

    3.2 is the mean of the largest of 1024 Gaussian magnitudes. 100 rotations.
    """
    x = np.random.default_rng(0).lognormal(size=1024).astype(np.float32)
    power = np.sum(x.astype(np.float64) ** 2)
    stage = compress.chain(compress.hadamard(), compress.terngrad(clip=0))
    squares = ((draws(stage, jnp.asarray(x), 100) - x) ** 2).sum(axis=1)
    assert 1.3 < squares.mean() / power < 1.8
    assert np.abs(x).max() * np.abs(x).sum() / power - 1 > 4


@pytest.mark.parametrize("clip", [-1.0, float("inf"), float("nan")])
def test_clips_out_of_range(clip):
    with pytest.raises(InputError, match="clip must be finite and at least 0"):
        compress.terngrad(clip)


def test_sigma_needs_clipping():
    with pytest.raises(InputError, match="scaler sigma needs clipping"):
        compress.terngrad(clip=0, scaler="sigma")
