"""What each stage does, by hand and against plain numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from fedjax_compress import compress, wire
from fedjax_compress.compress._hadamard import rotate
from fedjax_compress.compress.stages import kept
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.shuffle import permute
from fedjax_compress.typing import Keys

KEYS = Keys(jax.random.key(1), jax.random.key(2))


def encode(stage, array, coin=KEYS):
    """(carrier, side information)"""
    run = jax.jit(lambda a, c: stage.encode(a, (), c)[:2])
    return run(jnp.asarray(array), coin)


def through(stage, array, coin=KEYS, effort=None):
    """The decoded array; compiled with these options."""

    def run(array, coin):
        carrier, side, _ = stage.encode(array, (), coin)
        return stage.decode(carrier, side, coin.shared)

    run = jax.jit(run, compiler_options=effort)
    return np.asarray(run(jnp.asarray(array), coin))


def gaussian(n, seed=0):
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def test_kept_is_the_ceiling_without_float_error():
    assert [kept(0.07, 100), kept(0.01, 100), kept(0.01, 101)] == [7, 1, 2]
    assert [kept(0.001, 10), kept(1.0, 10), kept(0.5, 1), kept(0.3, 0)] == [1, 10, 1, 0]


# cast


def test_cast_rounds_to_nearest_and_saturates():
    x = np.array([1 + 2**-11 + 2**-12, 70000, -1e30, np.nan, np.inf], np.float32)
    half = through(compress.cast("float16"), x)
    np.testing.assert_array_equal(half, [1 + 2**-10, 65504, -65504, np.nan, np.inf])
    largest = (2 - 2**-7) * 2.0**127
    brain = through(compress.cast("bfloat16"), np.float32([1 + 2**-7, 3.4e38]))
    np.testing.assert_array_equal(brain, np.float32([1 + 2**-7, largest]))


# uniform


@pytest.mark.parametrize("levels", [2, 3, 16, 65536])
def test_uniform_reproduces_the_extremes(levels, full_effort):
    """To one unit in the last place, as compiled for users: there XLA multiplies by the
    inverse of k - 1, and 15 (1 / 15) is not 1."""
    for scale in (1e-30, 1.0, 3e38):
        x = gaussian(50) / 5 * np.float32(scale)
        y = through(compress.uniform(levels=levels), x, effort=full_effort)
        assert y.min() == y[x.argmin()] == x.min()
        assert y.max() == y[x.argmax()]
        np.testing.assert_array_max_ulp(y.max(), x.max(), 1)


def test_uniform_lands_on_a_neighbouring_level():
    x = gaussian(1000)
    y = through(compress.uniform(bits=3), x)
    step = (x.max() - x.min()) / 7
    level = (y - x.min()) / step
    np.testing.assert_allclose(level, np.round(level), atol=1e-5)
    assert (np.abs(y - x) < step * (1 + 1e-5)).all()
    assert len(np.unique(y)) == 8


def test_uniform_keeps_what_is_on_the_grid():
    """Idempotent: levels of 8 are not rounded again, whatever the coin."""
    x = (np.arange(8, dtype=np.float32) - 3).repeat(40)
    for seed in range(5):
        coin = KEYS.fold(seed)
        y = through(compress.uniform(bits=3), x, coin)
        np.testing.assert_allclose(y, x, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, -7e35, 1e-37, 0.0])
def test_uniform_is_exact_on_constants(value):
    x = np.full(9, value, np.float32)
    np.testing.assert_array_equal(through(compress.uniform(bits=1), x), x)


@pytest.mark.parametrize("options", [{"bits": 0}, {"bits": 17}, {"levels": 1}])
def test_uniform_refuses(options):
    with pytest.raises(InputError, match="must be"):
        compress.uniform(**options)


# qsgd


def test_qsgd_by_hand():
    """Elements on the level grid are exact; zigzag symbols; a norm a bucket."""
    x = np.array([0, 1, -1, 2, -2, 3, -3, 0, 10, -5], np.float32)
    x[9] = -10 / 3
    _, side = encode(compress.qsgd(bits=3, bucket=8), x)
    assert side["scales"].symbols.tolist() == [3, 10]
    assert side["symbols"].symbols.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 5, 2]
    assert side["symbols"].alphabet == 7
    np.testing.assert_allclose(through(compress.qsgd(3, 8), x), x, rtol=1e-6)


def test_qsgd_outputs_lie_on_the_level_grid():
    x = gaussian(100)
    for norm, ord_ in (("max", np.inf), ("l2", 2)):
        y = through(compress.qsgd(bits=4, bucket=30, norm=norm), x)
        for start in range(0, 100, 30):
            rows = slice(start, start + 30)
            level = y[rows] * 7 / np.linalg.norm(x[rows], ord_)
            np.testing.assert_allclose(level, np.round(level), atol=1e-4)
            assert (np.abs(level) < 7.001).all()
            assert (y[rows] * x[rows] >= 0).all()
            if norm == "max":
                top = np.abs(x[rows]).argmax()
                assert y[rows][top] == x[rows][top]


def test_qsgd_scales_with_its_input():
    x = gaussian(64)
    for norm in ("max", "l2"):
        stage = compress.qsgd(bits=3, bucket=16, norm=norm)
        np.testing.assert_array_equal(through(stage, 4 * x), 4 * through(stage, x))


def test_qsgd_with_one_level_and_one_element_is_exact():
    x = gaussian(20)
    for norm in ("max", "l2"):
        y = through(compress.qsgd(bits=2, bucket=1, norm=norm), x)
        np.testing.assert_allclose(y, x, rtol=1e-6)


@pytest.mark.parametrize("options", [{"bits": 1}, {"bits": 17}, {"bucket": 0}])
def test_qsgd_refuses(options):
    with pytest.raises(InputError, match="must be"):
        compress.qsgd(**options)


# top-k


@pytest.mark.parametrize("indices", ["fixed", "golomb", "bitmask"])
def test_top_k_equals_sorting(indices):
    x = gaussian(101).reshape(101, 1)
    carrier, side = encode(compress.top_k(0.1, indices), x)
    order = np.sort(np.argsort(-np.abs(x[:, 0]))[:11])
    np.testing.assert_array_equal(side["indices"].symbols, order)
    np.testing.assert_array_equal(carrier, x[order, 0])
    expected = np.zeros_like(x)
    expected[order] = x[order]
    np.testing.assert_array_equal(through(compress.top_k(0.1, indices), x), expected)


def test_top_k_breaks_ties_by_position():
    x = np.array([1, -2, 2, 2, -2, 0], np.float32)
    y = through(compress.top_k(0.5), x)
    np.testing.assert_array_equal(y, [0, -2, 2, 2, 0, 0])


def test_top_k_follows_permutations():
    x, order = gaussian(40), np.random.default_rng(1).permutation(40)
    y = through(compress.top_k(0.25), x)
    np.testing.assert_array_equal(through(compress.top_k(0.25), x[order]), y[order])


def test_all_of_n_is_the_identity_and_costs_no_positions():
    x = gaussian(10)
    for stage in (compress.top_k(1.0), compress.random_k(1.0)):
        carrier, side = encode(stage, x)
        np.testing.assert_array_equal(through(stage, x), x)
        assert int(wire.bits((wire.raw(carrier), side))) == 320


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_fractions_out_of_range(fraction):
    for stage in (compress.top_k, compress.random_k):
        with pytest.raises(InputError, match="fraction must be above 0"):
            stage(fraction)


# random-k


def test_random_k_keeps_k_scaled_elements():
    x = gaussian(30) + 5
    y = through(compress.random_k(0.2), x)
    chosen = np.flatnonzero(y)
    assert chosen.size == 6
    np.testing.assert_allclose(y[chosen], x[chosen] * 5, rtol=1e-6)
    plain = through(compress.random_k(0.2, rescale=False), x)
    np.testing.assert_array_equal(plain[chosen], x[chosen])


def test_positions_are_the_same_in_a_loop_and_unrolled():
    for n in (1, 7, 1000):
        index = jnp.arange(min(n, 20))
        rolled = permute(KEYS.shared, index, n, unroll=False)
        np.testing.assert_array_equal(rolled, permute(KEYS.shared, index, n))
        assert len(set(rolled.tolist())) == index.size


def test_random_k_draws_every_position_alike():
    """Counts of 6 of 30 positions in 3000 draws; 7 standard errors, p < 1e-9."""
    keys = jax.random.split(jax.random.key(5), 3000)
    ones = jnp.ones(30)
    stage = compress.random_k(0.2, rescale=False)

    def draw(key):
        carrier, side, _ = stage.encode(ones, (), Keys(key, key))
        return stage.decode(carrier, side, key)

    counts = np.asarray(jax.jit(jax.vmap(draw))(keys)).sum(axis=0)
    spread = np.sqrt(3000 * 0.2 * 0.8)
    assert (np.abs(counts - 600) < 7 * spread).all()


# hadamard


@pytest.mark.parametrize("size", [1, 2, 8, 64, 128])
def test_transform_equals_the_dense_matrix(size):
    """Blocks take runs of 16 elements in turn: block j is [:, j, :]."""
    x, run = gaussian(3 * size), min(size, 16)
    y = np.asarray(rotate(jnp.asarray(x), size))
    x, y = (v.reshape(-1, 3, run).swapaxes(0, 1).reshape(3, size) for v in (x, y))
    expected = x @ scipy.linalg.hadamard(size) / np.sqrt(size)
    np.testing.assert_allclose(y, expected, atol=2e-6)


@pytest.mark.parametrize("size", [4, 64, 2048])
def test_transforms_side_by_side_are_those_alone(size):
    x = gaussian((3, 2, 2 * size))
    together = jax.vmap(jax.vmap(lambda v: rotate(v, size)))(jnp.asarray(x))
    for i, j in np.ndindex(3, 2):
        alone = rotate(jnp.asarray(x[i, j]), size)
        np.testing.assert_allclose(together[i, j], alone, atol=2e-6)


def test_large_transform_is_orthonormal_and_its_own_inverse():
    x = jnp.asarray(gaussian(2**15))
    y = rotate(x, 2**15)
    np.testing.assert_allclose(jnp.linalg.norm(y), jnp.linalg.norm(x), rtol=1e-6)
    np.testing.assert_allclose(rotate(y, 2**15), x, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 64, 65, 100, 127])
def test_rotation_sends_n_elements_and_is_orthonormal(n):
    """The whole map as a matrix: orthonormal, so norms and noise power stay."""
    stage = compress.hadamard(block=16)

    def forward(row):
        return stage.encode(row, (), KEYS)[0]

    def backward(row):
        return stage.decode(row, {"shape": wire.Shape((n,), "float32")}, KEYS.shared)

    eye = jnp.eye(n)
    matrix = np.asarray(jax.vmap(forward)(eye))
    assert matrix.shape == (n, n)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(n), atol=2e-6)
    np.testing.assert_allclose(jax.vmap(backward)(eye), matrix.T, atol=2e-6)


def test_rotation_spreads_a_single_element_evenly():
    one_hot = jnp.zeros(64).at[10].set(3.0)
    carrier, _ = encode(compress.hadamard(), one_hot)
    np.testing.assert_allclose(np.abs(carrier), 3 / 8, rtol=1e-6)


@pytest.mark.parametrize("position", [0, 40, 63, 64, 99])
def test_rotation_leaves_no_element_unspread(position):
    """Also where n is no power of two: no element keeps more than 1 / 64 of the power.

    A single element at the end meets the second rotation; 2 * 64 > 100, so an element
    is spread over at least 64 places, each with 1 / 8 of it, and spread again after.
    """
    one_hot = jnp.zeros(100).at[position].set(1.0)
    carrier, _ = encode(compress.hadamard(), one_hot)
    assert np.abs(carrier).max() < 0.6
    assert np.count_nonzero(np.abs(carrier) > 1e-6) > 32


def test_rotations_can_be_differentiated():
    x = jnp.asarray(gaussian(192))
    slope = jax.grad(lambda v: jnp.sum(rotate(v, 64) ** 3))(x)
    np.testing.assert_allclose(slope, rotate(3 * rotate(x, 64) ** 2, 64), atol=1e-5)


@pytest.mark.parametrize("n", [9 * 2048, 2**15, 48_608])
def test_rotated_vectors_have_no_large_elements(n):
    """Whatever the vector was: max |y| within 1.5 of what a Gaussian one has.

    A spike; one half empty and one region of large elements; equal elements. For a
    spike in one of q blocks the ratio is sqrt(q), 3 here at most. The Gaussian maximum
    is about sqrt(2 ln 2n); 1.5 times it, in n elements, has probability below 1e-6.
    """
    spike = np.zeros(n, np.float32)
    spike[n // 3] = 1
    region = np.zeros(n, np.float32)
    region[: n // 9] = gaussian(n // 9)
    for x in (spike, region, np.ones(n, np.float32)):
        y = np.asarray(encode(compress.hadamard(), x)[0])
        largest = np.abs(y).max() / np.sqrt(np.mean(y**2))
        assert largest < 1.5 * np.sqrt(2 * np.log(2 * n))


def test_rotations_differ_by_shared_key_only():
    x = jnp.ones(64)
    carrier, _ = encode(compress.hadamard(), x)
    private = Keys(jax.random.key(9), KEYS.shared)
    shared = Keys(KEYS.private, jax.random.key(9))
    np.testing.assert_array_equal(encode(compress.hadamard(), x, private)[0], carrier)
    assert not np.allclose(encode(compress.hadamard(), x, shared)[0], carrier)


@pytest.mark.parametrize("block", [0, 3, -4, 100])
def test_blocks_are_powers_of_two(block):
    with pytest.raises(InputError, match="power of two"):
        compress.hadamard(block)
