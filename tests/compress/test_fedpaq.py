"""FedPAQ's preset, and QSGD with any bucket, against plain numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys

DRAWS = 5000


def draws(stage, vector, count=DRAWS, seed=0):
    """C(x) under independent coins, float64 [count, n]."""

    def one(key):
        coin = Keys(*jax.random.split(key))
        carrier, side, _ = stage.encode(vector, (), coin)
        return stage.decode(carrier, side, coin.shared)

    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(one))(keys), np.float64)


def gaussian(n, seed=0):
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def levels(x, bucket, s, order):
    """Norm, level below and probability of the next, element by element, float64."""
    norms, below, chance = np.empty((3, x.size))
    for start in range(0, x.size, bucket):
        part = slice(start, start + bucket)
        values = np.abs(x[part].astype(np.float64))
        norms[part] = np.linalg.norm(values, order)
        position = values / norms[part] * s
        below[part] = np.floor(position)
        chance[part] = position - below[part]
    return norms, below, chance


@pytest.mark.parametrize(
    ("stage", "bucket", "s", "order"),
    [
        (compress.fedpaq(4), 50, 7, 2),
        (compress.qsgd(3, 16, "l2"), 16, 3, 2),
        (compress.qsgd(3, 16, "max"), 16, 3, np.inf),
    ],
)
def test_levels_and_probabilities(stage, bucket, s, order):
    """Each element is at one of two levels; shares within 7 standard errors and 20.

    Below 1e-9 for 50 shares, rare events included. The largest of a bucket with the max
    norm is exact but for rounding, which may show as a probability of 0 or 1.
    """
    x = gaussian(50)
    norms, below, chance = levels(x, bucket, s, order)
    found = draws(stage, jnp.asarray(x)) / norms * s * np.sign(x)
    up = np.round(found - below)
    np.testing.assert_allclose(found - below, up, atol=1e-4)
    exact = np.abs(x) >= norms * (1 - 1e-7)
    assert np.isin(up[:, ~exact], (0, 1)).all()
    margin = 7 * np.sqrt(chance * (1 - chance) / DRAWS) + 20 / DRAWS
    share = up.mean(axis=0)
    assert (np.abs(share - chance) <= margin)[~exact].all()
    np.testing.assert_allclose(found[:, exact], s, rtol=1e-5)


@pytest.mark.parametrize("stage", [compress.fedpaq(8), compress.qsgd(8)])
def test_the_largest_numbers_arrive(stage):
    """Their inverses are no normal numbers, which a division must survive."""
    x = jnp.asarray([0, -2e38, 1e38], jnp.float32)
    found = draws(stage, x, 3)
    np.testing.assert_allclose(found, np.tile(x, (3, 1)), atol=2.3e38 / 127)


def test_one_norm_for_the_whole_array():
    x = jnp.asarray(gaussian(1000))
    coin = Keys(jax.random.key(1), jax.random.key(2))
    _, side, _ = compress.fedpaq(5).encode(x, (), coin)
    assert side["scales"].symbols.shape == (1,)
    np.testing.assert_allclose(side["scales"].symbols, jnp.linalg.norm(x), rtol=1e-6)
    expected = compress.qsgd(5, 1000, "l2").encode(x, (), coin)[1]
    jax.tree.map(np.testing.assert_array_equal, side, expected)


def test_many_levels_change_nothing():
    x = gaussian(100)
    found = draws(compress.fedpaq(16), jnp.asarray(x), 3)
    np.testing.assert_allclose(found, np.tile(x, (3, 1)), atol=10 / 2**15)


def test_its_name_and_its_codes():
    assert compress.canonical("fedpaq(4)") == "fedpaq(bits=4)"
    x = jnp.asarray(gaussian(4096))
    coin = Keys(jax.random.key(1), jax.random.key(2))
    sizes = []
    for code in ("fixed", "elias", "stream"):
        compressor = compress.parse(f"on_vector(fedpaq(bits=4, code={code}))")
        sizes.append(int(wire.bits(compressor.encode({"a": x}, (), coin)[0])))
    assert sizes[0] == 4 * 4096 + 32
    assert sizes[0] > 3 * sizes[1] > 3 * sizes[2]


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_out_of_range(bits):
    with pytest.raises(InputError, match="bits must be 2 to 16"):
        compress.fedpaq(bits)
