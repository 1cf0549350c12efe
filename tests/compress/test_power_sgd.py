"""PowerSGD: projections, their factors and the warm start, against plain numpy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.compress._power_sgd import _orthonormal
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys

KEYS = Keys(jax.random.key(1), jax.random.key(2))


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def start(stage, array):
    return stage.init(jax.ShapeDtypeStruct(array.shape, array.dtype))


@functools.cache
def compiled(stage):
    def run(array, state, keys):
        carrier, side, state = stage.encode(array, state, keys)
        return carrier, stage.decode(carrier, side, keys.shared), state

    return jax.jit(run)


def send(stage, array, state=None, keys=KEYS):
    """(carrier, decoded, state after)"""
    array = jnp.asarray(array)
    state = start(stage, array) if state is None else state
    carrier, arrived, state = compiled(stage)(array, state, keys)
    return carrier, np.asarray(arrived), state


def factors(carrier, rows, columns, rank):
    left, right = np.split(np.asarray(carrier), [rows * rank])
    return left.reshape(rows, rank), right.reshape(columns, rank)


def plain(matrix, right):
    """One step in float64 with numpy's own QR: P, Q and P Q^T."""
    left = np.linalg.qr(np.asarray(matrix, np.float64) @ right)[0]
    new = matrix.T @ left
    return left, new, left @ new.T


def test_three_rounds_equal_plain_numpy():
    """From the same first Q. Factors agree up to the sign of each column."""
    stage = compress.power_sgd(rank=3)
    right = np.asarray(jax.random.normal(KEYS.shared, (24, 3)), np.float64)
    state = None
    for seed in range(3):
        matrix = gaussian(40, 24, seed=seed)
        carrier, arrived, state = send(stage, matrix, state)
        left, right, expected = plain(matrix, right)
        got_left, got_right = factors(carrier, 40, 24, 3)
        signs = np.sign((got_left * left).sum(axis=0))
        np.testing.assert_allclose(got_left * signs, left, atol=1e-4)
        np.testing.assert_allclose(got_right * signs, right, atol=1e-3)
        np.testing.assert_allclose(arrived, expected, atol=1e-4)
        np.testing.assert_array_equal(state, got_right)


def test_columns_are_orthonormal_even_if_they_are_nearly_parallel():
    base = gaussian(50, 1)
    for closeness in (1.0, 1e-2, 1e-4):
        matrix = base + closeness * gaussian(50, 4, seed=1)
        found = np.asarray(_orthonormal(jnp.asarray(matrix)), np.float64)
        np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-6)
        expected = np.linalg.qr(matrix.astype(np.float64))[0]
        # float32 inputs that close have directions that are known to 1e-7 / closeness
        parallel = np.abs((found * expected).sum(axis=0))
        assert (parallel > 1 - 1e-5 / closeness).all()


def test_a_column_without_a_direction_of_its_own_is_zero():
    one, two = gaussian(30, 2).T
    matrix = np.stack([one, 3 * one, two, 0 * one, one - two], axis=1)
    found = np.asarray(_orthonormal(jnp.asarray(matrix)))
    lengths = np.linalg.norm(found, axis=0)
    np.testing.assert_allclose(lengths, [1, 0, 1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (4, 4), (2, 3, 6)])
def test_full_rank_is_exact_after_one_step(shape):
    x = gaussian(*shape)
    stage = compress.power_sgd(rank=99, min_ratio=0.0)
    np.testing.assert_allclose(send(stage, x)[1], x, atol=1e-5)


def test_a_fixed_matrix_of_the_rank_is_found():
    x = gaussian(30, 2) @ gaussian(2, 20, seed=1)
    arrived = send(compress.power_sgd(rank=2), x)[1]
    np.testing.assert_allclose(arrived, x, atol=1e-4)


def spectrum(rows=30, columns=20):
    """A matrix with singular values 1, 0.8, 0.8**2, ..., and the values."""
    left = np.linalg.qr(gaussian(rows, columns))[0]
    right = np.linalg.qr(gaussian(columns, columns, seed=1))[0]
    values = 0.8 ** np.arange(columns)
    return ((left * values) @ right.T).astype(np.float32), values


def test_a_warm_start_ends_at_the_best_projection_and_beats_a_random_one():
    """On a fixed matrix the error falls to what the other singular values hold."""
    x, values = spectrum()
    best = np.sqrt((values[2:] ** 2).sum())
    stage, state, errors = compress.power_sgd(rank=2), None, []
    for number in range(40):
        _, arrived, state = send(stage, x, state, KEYS.fold(number))
        errors.append(np.linalg.norm(x - arrived))
    cold = [
        np.linalg.norm(x - send(stage, x, None, KEYS.fold(number))[1])
        for number in range(10)
    ]
    assert errors[0] > 1.05 * best
    assert errors[-1] == pytest.approx(best, rel=1e-3)
    assert (np.diff(errors) < 1e-5).all()
    assert errors[5] < min(cold)


def test_more_iterations_are_rounds_on_the_same_matrix():
    x, _ = spectrum()
    once, state = compress.power_sgd(rank=2), None
    for _ in range(4):
        _, arrived, state = send(once, x, state)
    four = send(compress.power_sgd(rank=2, iterations=4), x)[1]
    np.testing.assert_allclose(four, arrived, atol=1e-5)


def test_the_matrix_has_the_last_axis_as_columns():
    """(height, width, in, out) is (height width in) x out."""
    x = gaussian(3, 3, 8, 16)
    stage = compress.power_sgd(rank=2)
    carrier, arrived, state = send(stage, x)
    assert state.shape == (16, 2)
    assert carrier.shape == (2 * (72 + 16),)
    np.testing.assert_array_equal(
        arrived.reshape(72, 16), send(stage, x.reshape(72, 16))[1]
    )


@pytest.mark.parametrize(
    ("shape", "rank", "min_ratio", "elements"),
    [
        ((40, 24), 2, 2.0, 2 * 64),
        ((3, 3, 8, 16), 1, 2.0, 88),
        ((12, 5), 2, 2.0, 60),  # 60 / 34 < 2
        ((12, 5), 1, 2.0, 17),
        ((12, 5), 2, 1.0, 34),
        ((8, 8), 2, 2.0, 64),  # exactly twice is not more
        ((1000,), 1, 0.0, 1000),
        ((), 1, 0.0, 1),
    ],
)
def test_what_travels(shape, rank, min_ratio, elements):
    x = jnp.asarray(gaussian(*shape))
    compressor = compress.on_leaves(compress.power_sgd(rank, min_ratio=min_ratio))
    state = compressor.init(x)
    payload, _ = compressor.encode(x, state, KEYS)
    assert int(wire.bits(payload)) == 32 * elements
    if elements == x.size:
        assert state == ()
        np.testing.assert_array_equal(compressor.decode(payload, x, KEYS.shared), x)


def test_it_is_a_projection():
    """||M - C(M)||^2 + ||C(M)||^2 = ||M||^2, so nothing lost ever adds."""
    for seed in range(5):
        x = gaussian(60, 9, seed=seed)
        x[:, 4] *= 100
        arrived = send(compress.power_sgd(rank=2), x)[1].astype(np.float64)
        lost = ((x - arrived) ** 2).sum()
        assert lost + (arrived**2).sum() == pytest.approx((x**2).sum(), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_scale(scale):
    x = gaussian(30, 20)
    stage = compress.power_sgd(rank=2)
    _, plain_one, _ = send(stage, x)
    _, arrived, state = send(stage, x * np.float32(scale))
    np.testing.assert_allclose(arrived / np.float32(scale), plain_one, atol=1e-5)
    again = send(stage, x, state)[1]
    assert np.isfinite(again).all()
    assert np.linalg.norm(x - again) < np.linalg.norm(x - plain_one)


def test_after_zeros_it_starts_afresh():
    stage, x = compress.power_sgd(rank=2), gaussian(30, 20)
    _, arrived, state = send(stage, 0 * x)
    assert not arrived.any()
    assert not np.asarray(state).any()
    np.testing.assert_array_equal(send(stage, x, state)[1], send(stage, x)[1])
    # of rank 1: the second column is dead, and comes back
    _, _, state = send(stage, np.outer(x[:, 0], x[0]))
    alive = np.abs(np.asarray(state)).max(axis=0) > 0
    assert alive.tolist() == [True, False]
    _, arrived, state = send(stage, x, state)
    assert np.linalg.matrix_rank(arrived) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_all(bad):
    x = gaussian(30, 20)
    x[3, 4] = bad
    assert np.isnan(send(compress.power_sgd(), x)[1]).all()


def test_error_feedback_sends_all_in_the_end():
    """Of a fixed update of 20 directions, one a round: the residual stays bounded.

    So the mean of what arrives goes to the update as 1 / rounds. Without error feedback
    it stays at the best of rank 1, which lacks 80 % of the norm.
    """
    x = jnp.asarray(spectrum()[0])
    lacking = {}
    for text in ("error_feedback(power_sgd(rank=1))", "power_sgd(rank=1)"):
        compressor = compress.parse(text)

        def step(state, keys, compressor=compressor):
            payload, state = compressor.encode(x, state, keys)
            return state, compressor.decode(payload, x, keys.shared)

        many = jax.vmap(KEYS.fold)(jnp.arange(200))
        run = jax.jit(lambda s, many, step=step: jax.lax.scan(step, s, many)[1])
        mean = np.asarray(run(compressor.init(x), many)).mean(axis=0)
        lacking[text] = np.linalg.norm(mean - x) / np.linalg.norm(x)
    with_feedback, without = lacking.values()
    assert with_feedback < 0.1
    assert without > 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be"),
        ({"iterations": 0}, "iterations must be"),
        ({"min_ratio": -1.0}, "min_ratio must be"),
        ({"min_ratio": float("inf")}, "min_ratio must be"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        compress.power_sgd(**options)
