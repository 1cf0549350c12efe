"""The generator of random bits: keys that are their own, words without structure.

Keys are fixed, so the statistics below either hold or not; were the keys new in every
run, all tests together would fail by chance with probability below 1e-6.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_compress.errors import InputError
from fedjax_compress.numerics.randomness import GENERATORS, mix, root_key

ALPHA = 1e-9
KEYS = 1 << 14

fold = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))
words_of = jax.jit(jax.vmap(lambda key: jax.random.bits(key, (32,), jnp.uint32)))


def limit(cells: int) -> float:
    """Of the largest of so many standard normal numbers, at false-alarm rate ALPHA."""
    return float(stats.norm.isf(ALPHA / 2 / cells))


def data_of(keys) -> np.ndarray:
    return np.asarray(jax.random.key_data(keys))


def bits_of(words: np.ndarray) -> np.ndarray:
    """[..., 32], each 0 or 1."""
    return (words[..., None] >> np.arange(32, dtype=np.uint32)) & 1


def assert_even(bits: np.ndarray, draws: int) -> None:
    """Each column of ``bits`` [draws', ...] is 1 half of the time."""
    z = (bits.mean(0) - 0.5) * 2 * np.sqrt(draws)
    assert np.abs(z).max() < limit(z.size)


@pytest.fixture(scope="module")
def words() -> np.ndarray:
    """uint32 [KEYS, 32], words of the keys of neighbouring clients."""
    return np.asarray(words_of(fold(root_key(7), jnp.arange(KEYS))))


def test_mix_is_a_bijection_that_numpy_confirms():
    """Undone step by step: shifts by xor, odd factors by their inverse mod 2**32."""
    x = np.random.default_rng(0).integers(0, 2**32, 10_000, np.uint32)

    def unshift(y, k):
        found = y.copy()
        for _ in range(32 // k):
            found = y ^ (found >> np.uint32(k))
        return found

    y = np.asarray(mix(jnp.asarray(x)))
    y = unshift(y, 16) * np.uint32(pow(0x846CA68B, -1, 2**32))
    y = unshift(y, 15) * np.uint32(pow(0x7FEB352D, -1, 2**32))
    np.testing.assert_array_equal(unshift(y, 16), x)


def test_a_stream_is_what_the_docstring_says():
    key = root_key(3)
    low, high = data_of(key)
    index = jnp.arange(100, dtype=jnp.uint32)
    expected = mix(mix(index ^ low) ^ high)
    np.testing.assert_array_equal(jax.random.bits(key, (100,), jnp.uint32), expected)
    shaped = jax.random.bits(key, (4, 25), jnp.uint32)
    np.testing.assert_array_equal(shaped.reshape(-1), expected)
    for short in (jnp.uint8, jnp.uint16):
        found = jax.random.bits(key, (100,), short)
        np.testing.assert_array_equal(found, expected.astype(short))


def test_keys_of_neighbours_never_meet():
    """Clients, rounds and their exchange; splits; the key they come from; seeds."""
    root = root_key(0)
    by_client = [fold(jax.random.fold_in(root, r), jnp.arange(500)) for r in range(20)]
    keys = [*by_client, jax.random.split(root, 500), fold(root, jnp.arange(500))]
    seeds = jnp.stack([root_key(s) for s in range(50)])
    found = np.concatenate([data_of(k) for k in [*keys, seeds]])
    assert len(np.unique(found, axis=0)) == len(found)
    extremes = jnp.array([0, 2**31 - 1, 2**31, 2**32 - 1], jnp.uint32)
    assert len(np.unique(data_of(fold(root, extremes)), axis=0)) == 4


@pytest.mark.parametrize("what", ["number", "key"])
def test_each_bit_folded_in_turns_half_of_the_key(what):
    """Avalanche, for each of 32 (number) or 64 (key) input bits and 64 output bits."""
    numbers = np.random.default_rng(1).integers(0, 2**32, KEYS, np.uint32)
    keys = fold(root_key(7), jnp.arange(KEYS))
    if what == "number":
        before = data_of(fold(root_key(9), jnp.asarray(numbers)))
        for bit in range(32):
            turned = jnp.asarray(numbers ^ np.uint32(1 << bit))
            assert_even(bits_of(before ^ data_of(fold(root_key(9), turned))), KEYS)
        return
    impl = jax.random.key_impl(keys)

    @jax.jit
    @jax.vmap
    def each(data):
        key = jax.random.wrap_key_data(data, impl=impl)
        return jax.random.key_data(jax.random.fold_in(key, 5))

    before = np.asarray(each(data_of(keys)))
    for bit in range(64):
        turn = np.zeros(2, np.uint32)
        turn[bit // 32] = 1 << (bit % 32)
        assert_even(bits_of(before ^ np.asarray(each(data_of(keys) ^ turn))), KEYS)


def test_words_of_neighbouring_clients_are_even_and_unrelated(words):
    """Every bit; every pair of words, whole and in the lowest bit; clients apart."""
    assert_even(bits_of(words), KEYS)
    whole = (words.astype(np.float64) / 2**32 - 0.5) * np.sqrt(12)
    lowest = (words & 1) * 2.0 - 1
    for series in (whole, lowest):
        z = (series.T @ series) / np.sqrt(KEYS)
        np.fill_diagonal(z, 0)
        assert np.abs(z).max() < limit(z.size)
        for apart in (1, 2, 16, 1024):
            z = (series[:-apart] * series[apart:]).sum(0) / np.sqrt(KEYS - apart)
            assert np.abs(z).max() < limit(z.size)
    for bit in range(5):
        other = words[:, np.arange(32) ^ (1 << bit)]
        assert_even(bits_of(words ^ other), KEYS)


@pytest.mark.parametrize("shift", [0, 12, 26])
@pytest.mark.parametrize("apart", [1, 2, 64, 4096])
def test_pairs_in_a_long_stream_are_equally_likely(shift, apart):
    """Serial test: 4096 cells of two times 6 bits, about 128 pairs each."""
    stream = np.asarray(jax.random.bits(root_key(5), (1 << 20,), jnp.uint32))
    six = (stream >> shift & 63).astype(np.int64)
    cells = (six[:-apart] * 64 + six[apart:])[::2]
    observed = np.bincount(cells, minlength=4096)
    expected = cells.size / 4096
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert statistic < stats.chi2.isf(ALPHA, 4095)


def test_words_repeat_between_clients_as_often_as_by_chance(words):
    """Birthday test: n**2 / 2**33 pairs are expected, Poisson."""
    flat = words.reshape(-1)
    repeats = flat.size - np.unique(flat).size
    expected = flat.size**2 / 2**33
    assert stats.poisson.ppf(ALPHA, expected) <= repeats
    assert repeats <= stats.poisson.isf(ALPHA, expected)


def test_jax_random_works_with_it():
    """Normal numbers, by Kolmogorov and Smirnov; the key as an argument of jit."""
    for generator in GENERATORS:
        key = root_key(1, generator)
        numbers = jax.jit(lambda k: jax.random.normal(k, (20_000,)))(key)
        assert stats.kstest(np.asarray(numbers), "norm").pvalue > ALPHA


def test_bad_seeds_are_refused():
    root_key(2**32 - 1)
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match="the seed must be 0 to 4294967295"):
            root_key(seed)
    with pytest.raises(InputError, match="known: mix, threefry2x32"):
        root_key(0, "philox")
