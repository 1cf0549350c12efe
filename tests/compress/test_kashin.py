"""Kashin's representation against a plain dense frame, and what it is for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from fedjax_compress import compress
from fedjax_compress.compress._kashin import _draw, _plan
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys

KEYS = Keys(jax.random.key(1), jax.random.key(2))


def lognormal(n, seed=0):
    """Magnitudes spread over orders, with random signs."""
    rng = np.random.default_rng(seed)
    return (rng.lognormal(size=n) * rng.choice([-1, 1], n)).astype(np.float32)


def encode(stage, array, coin=KEYS):
    """(carrier, side information)"""
    return jax.jit(lambda a: stage.encode(a, (), coin)[:2])(jnp.asarray(array))


def decode(stage, carrier, side, coin=KEYS):
    return np.asarray(stage.decode(jnp.asarray(carrier), side, coin.shared))


def blocks_of(carrier, plan):
    """Coefficients block by block [blocks, N]; blocks take runs of 16 in turn."""
    run = min(plan.size, 16)
    grid = np.asarray(carrier).reshape(-1, plan.blocks, run)
    return grid.swapaxes(0, 1).reshape(plan.blocks, plan.size)


def frames(plan, key=KEYS.shared):
    """The dense frames U, float64 [blocks, m, N], from signs and positions."""
    signs, positions = map(np.asarray, _draw(key, plan))
    signs = blocks_of(signs, plan).astype(np.float64)
    hadamard = scipy.linalg.hadamard(plan.size) / np.sqrt(plan.size)
    return np.stack([(np.diag(d) @ hadamard)[positions] for d in signs])


def plain(frame, x, eta, delta, iterations):
    """The algorithm as it is written down, with a dense frame; also all levels."""
    a, rest, levels = np.zeros(frame.shape[1]), x.copy(), []
    level = np.sqrt(np.sum(x**2)) / np.sqrt(delta * frame.shape[1])
    for _ in range(iterations):
        levels.append(level)
        a = a + np.clip(frame.T @ rest, -level, level)
        rest = x - frame @ a
        level = level * eta
    return a + frame.T @ rest, levels


@pytest.mark.parametrize(
    ("n", "redundancy", "eta", "delta", "iterations", "block"),
    [
        (50, 1.25, 0.9, 1.0, 3, 32768),
        (300, 1.25, 0.5, 1.0, 10, 64),
        (100, 2.0, 0.4, 0.8, 6, 32),
        (3, 1.25, 0.9, 1.0, 3, 32768),
    ],
)
def test_it_is_the_algorithm_with_a_dense_frame(
    n, redundancy, eta, delta, iterations, block
):
    x = lognormal(n)
    stage = compress.kashin(redundancy, eta, delta, iterations, block)
    found = encode(stage, x)[0]
    plan = _plan(n, redundancy, block)
    full = np.zeros(plan.rows * plan.blocks)
    full[:n] = x
    for block_number, frame in enumerate(frames(plan)):
        mine = full[block_number :: plan.blocks]
        expected, levels = plain(frame, mine, eta, delta, iterations)
        assert levels == pytest.approx(levels[0] * eta ** np.arange(iterations))
        got = blocks_of(found, plan)[block_number]
        np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(x).max())


@pytest.mark.parametrize("n", [1, 2, 5, 33, 700])
def test_frames_are_tight_and_the_rows_distinct(n):
    plan = _plan(n, 1.25, 64)
    assert plan.blocks * plan.rows >= n
    for frame in frames(plan):
        np.testing.assert_allclose(frame @ frame.T, np.eye(plan.rows), atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 33, 40_000])
def test_decoding_restores_the_array(n):
    """||U a - x|| <= 1e-5 ||x||: the last step is not clipped."""
    x = lognormal(n)
    stage = compress.kashin(iterations=5, eta=0.6)
    arrived = decode(stage, *encode(stage, x))
    assert np.linalg.norm(arrived - x) <= 1e-5 * np.linalg.norm(x)


@pytest.mark.parametrize("redundancy", [1.25, 2.0])
def test_largest_coefficients_are_smaller_than_after_rotation(redundancy):
    """For each of 12 vectors; on average by a quarter and by 40 % at least.

    sqrt(N) max |a| / ||x||, which counts both for the same energy: about 4.2 when
    rotated, 2.53 and 1.99 as represented, in a table of the method.
    """
    n = round(2048 / redundancy) if redundancy < 2 else 2048
    stage = compress.kashin(redundancy, eta=0.5, iterations=10)

    def peak(stage, x, key):
        carrier = stage.encode(x, (), Keys(key, key))[0]
        return jnp.sqrt(carrier.size) * jnp.max(jnp.abs(carrier)) / jnp.linalg.norm(x)

    vectors = jnp.stack([jnp.asarray(lognormal(n, seed)) for seed in range(12)])
    keys = jax.random.split(jax.random.key(3), 12)
    kashin, rotated = (
        np.asarray(jax.vmap(lambda x, k, s=s: peak(s, x, k))(vectors, keys))
        for s in (stage, compress.hadamard())
    )
    assert (kashin < rotated).all()
    assert kashin.mean() < (0.75 if redundancy < 2 else 0.6) * rotated.mean()
    assert kashin.mean() == pytest.approx(2.53 if redundancy < 2 else 1.99, rel=0.1)


def test_coefficients_come_in_no_two_copies():
    """The trap of n <= N / 2 at the front: rows i and i + N / 2 of H agree there."""
    x = lognormal(512)
    stage = compress.kashin(redundancy=2.0)
    carrier = np.asarray(encode(stage, x)[0])
    assert carrier.size == 1024
    one, two = np.split(carrier, 2)
    assert np.linalg.norm(np.abs(one) - np.abs(two)) > 0.1 * np.linalg.norm(one)


@pytest.mark.parametrize(
    "n", [1, 2, 7, 10, 62, 129, 1000, 12_345, 100_000, 1_663_370, 2**20]
)
def test_how_many_coefficients_travel(n):
    """As many as the redundancy asks for, and at most a tenth more in a large array."""
    for redundancy in (1.25, 2.0):
        plan = _plan(n, redundancy, 32768)
        assert plan.size & (plan.size - 1) == 0
        assert plan.size <= 32768
        assert plan.size * plan.blocks >= redundancy * n
        if n > 1000:
            assert plan.size * plan.blocks <= 1.1 * redundancy * n + 1
        else:
            assert plan.size * plan.blocks <= max(2 * redundancy * n, 2)
        assert plan.rows < plan.size or n == 1
    stage = compress.kashin()
    if n < 100:
        plan = _plan(n, 1.25, 32768)
        assert encode(stage, lognormal(n))[0].shape == (plan.size * plan.blocks,)


def test_a_region_of_large_elements_is_dealt_to_all_blocks():
    x = np.zeros(8192, np.float32)
    x[:1024] = 1
    plan = _plan(8192, 1.25, 512)
    carrier, _ = encode(compress.kashin(block=512), x)
    power = (blocks_of(carrier, plan) ** 2).sum(axis=1)
    assert plan.blocks > 10
    assert power.max() < 1.5 * power.min()


def test_coefficients_have_at_most_the_energy_that_omega_allows():
    """||a||^2 <= (1 + T) ||x||^2, which claims of chains rest on."""
    for iterations, eta, delta in ((1, 0.9, 1.0), (10, 0.5, 0.3)):
        stage = compress.kashin(1.5, eta, delta, iterations)
        bound = 1 + stage.claims.omega(500)
        assert bound == iterations + 1
        spike = np.zeros(500, np.float32)
        spike[7] = 1
        for x in (lognormal(500), np.ones(500, np.float32), spike):
            carrier = np.asarray(encode(stage, x)[0], np.float64)
            assert (carrier**2).sum() <= bound * (x.astype(np.float64) ** 2).sum()


def test_signs_and_positions_follow_from_the_shared_key_alone():
    x = lognormal(100)
    stage = compress.kashin()
    carrier = encode(stage, x)[0]
    private = Keys(jax.random.key(9), KEYS.shared)
    shared = Keys(KEYS.private, jax.random.key(9))
    np.testing.assert_array_equal(encode(stage, x, private)[0], carrier)
    assert not np.allclose(encode(stage, x, shared)[0], carrier)
    plan = _plan(100, 1.25, 32768)
    one, two = (_draw(key, plan) for key in (KEYS.shared, shared.shared))
    assert (np.asarray(one[0]) != np.asarray(two[0])).any()
    assert (np.asarray(one[1]) != np.asarray(two[1])).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"redundancy": 1.0}, "redundancy must be above 1"),
        ({"redundancy": 17.0}, "redundancy must be above 1"),
        ({"eta": 1.0}, "eta must be"),
        ({"eta": 0.0}, "eta must be"),
        ({"delta": 0.0}, "delta must be"),
        ({"delta": 1.1}, "delta must be"),
        ({"iterations": 0}, "iterations must be"),
        ({"block": 48}, "power of two"),
        ({"block": 16}, "power of two"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        compress.kashin(**options)


# The preset of Caldas et al., and subsampling.


@pytest.mark.parametrize(
    ("preset", "stages"),
    [
        ("caldas", "kashin | uniform(bits=8)"),
        (
            "caldas(hadamard, 0.25, 2)",
            "hadamard | subsample(0.25) | uniform(bits=2)",
        ),
        ("caldas(identity, fraction=0.5)", "subsample(0.5) | uniform(bits=8)"),
        ("caldas(identity, bits=3)", "uniform(bits=3)"),
    ],
)
def test_the_preset_is_the_chain_in_the_order_of_the_paper(preset, stages):
    """Transform, subsampling, quantization: the same messages, bit for bit."""
    x = jnp.asarray(lognormal(90))

    def run(compressor):
        payload, _ = compressor.encode(x, compressor.init(x), KEYS)
        return payload, compressor.decode(payload, x, KEYS.shared)

    both = [jax.jit(run, static_argnums=0)(compress.parse(t)) for t in (preset, stages)]
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_preset_prints_back_as_itself():
    text = compress.canonical("caldas(hadamard, 0.25, 2)")
    assert text == "caldas(transform=hadamard, fraction=0.25, bits=2)"
    assert compress.canonical("caldas") == "caldas"


@pytest.mark.parametrize(
    "options", [{"fraction": 0.0}, {"fraction": 1.5}, {"bits": 0}, {"bits": 17}]
)
def test_the_preset_refuses(options):
    with pytest.raises(InputError, match=next(iter(options))):
        compress.caldas(**options)


def test_subsampling_is_random_k_scaled():
    x = lognormal(30)
    one, two = compress.subsample(0.2), compress.random_k(0.2)
    arrived = decode(one, *encode(one, x))
    np.testing.assert_array_equal(arrived, decode(two, *encode(two, x)))
    chosen = np.flatnonzero(arrived)
    assert chosen.size == 6
    np.testing.assert_allclose(arrived[chosen], 5 * x[chosen], rtol=1e-6)
    with pytest.raises(InputError, match="fraction must be above 0"):
        compress.subsample(0.0)
