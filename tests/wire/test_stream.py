"""QSGD's stream: words by hand, lengths, the paper's bound, damage."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.errors import WireError
from fedjax_compress.typing import Keys

KEYS = Keys(jax.random.key(1), jax.random.key(2))
STREAM = wire.CODES["stream"]
COUNT = jax.jit(wire.bits)
S = 7


def zigzag(levels):
    levels = np.asarray(levels)
    return np.where(levels > 0, 2 * levels - 1, -2 * levels).astype(np.uint32)


def text(levels):
    return "".join(map(str, STREAM.encode(zigzag(levels), 2 * S + 1)))


def test_words_by_hand():
    """Omega: 1 is 0, 2 is 100, 3 is 110, 4 is 101000, 7 is 101110."""
    assert text([0, 2, 0, 0, -1]) == "1000100" + "11010" + "0"
    assert text([-7, 0, 0, 0]) == "01101110" + "101000"
    assert text([1, 1]) == "000" + "000" + "0"
    assert text([0, 0, 0]) == "101000"
    assert text([]) == ""


def naive(levels):
    """The stream from its definition, word by word."""

    def omega(k):
        word = "0"
        while k > 1:
            word, k = f"{k:b}" + word, k.bit_length() - 1
        return word

    found, last = "", -1
    for i, level in enumerate(levels):
        if level:
            found += omega(i - last) + "01"[level < 0] + omega(abs(level))
            last = i
    return found + (omega(len(levels) - last) if len(levels) else "")


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 2500])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_bits_and_lengths_equal_the_definition(n, share):
    rng = np.random.default_rng(n)
    levels = rng.integers(-S, S + 1, n) * (rng.random(n) < share)
    expected = naive(levels.tolist())
    assert text(levels) == expected
    field = wire.Field(jnp.asarray(zigzag(levels)), 2 * S + 1, "stream")
    assert int(COUNT(field)) == len(expected)
    again = wire.unpack(wire.pack(field), field)
    np.testing.assert_array_equal(again.symbols, field.symbols)


def test_long_streams_cross_the_chunks():
    rng = np.random.default_rng(2)
    symbols = np.minimum(rng.geometric(0.02, 300_000) - 1, 2**16).astype(np.uint32)
    symbols[1000:250_000] *= rng.random(249_000) < 0.5
    written = STREAM.encode(symbols, 2**16 + 1)
    assert written.size > 2**20
    reader = wire.BitReader(written)
    again = STREAM.decode(reader, symbols.size, 2**16 + 1)
    np.testing.assert_array_equal(again, symbols)
    assert reader.position == written.size


def test_every_cut_is_noticed():
    """No stream is the beginning of another for as many symbols."""
    written = STREAM.encode(zigzag([0, 3, 0, 0, -7, 1, 0, 0]), 2 * S + 1)
    for end in range(written.size):
        with pytest.raises(WireError):
            STREAM.decode(wire.BitReader(written[:end]), 8, 2 * S + 1)


def test_gaps_and_levels_out_of_range_are_refused():
    def read(bits, n):
        bits = np.array([int(b) for b in bits], np.uint8)
        return STREAM.decode(wire.BitReader(bits), n, 7)

    with pytest.raises(WireError, match="a gap leads to element 3 of 2"):
        read("101000", 2)
    with pytest.raises(WireError, match="symbol 7 in an alphabet of 7"):
        read("001010000", 1)
    assert read("011100", 1).tolist() == [6]


@pytest.mark.parametrize(("n", "bits"), [(512, 2), (512, 5), (65_536, 3), (65_536, 4)])
def test_length_is_within_the_bound_of_the_paper(n, bits):
    """Theorem 3.2 with o(1) = 0, for Gaussian vectors and one norm.

    (3 + 3/2 log2(2 (s**2 + n) / (s (s + sqrt n)))) s (s + sqrt n) + 32 bits, expected;
    measured lengths are 0.4 to 0.95 of it.
    """
    s = 2 ** (bits - 1) - 1
    x = jnp.asarray(np.random.default_rng(n).normal(size=n), jnp.float32)
    stage = compress.qsgd(bits, n, "l2", "stream")
    _, side, _ = jax.jit(stage.encode)(x, (), KEYS)
    nonzero = s * (s + math.sqrt(n))
    bound = (3 + 1.5 * math.log2(2 * (s**2 + n) / nonzero)) * nonzero + 32
    assert 0.3 * bound < int(wire.bits(side)) < bound
    assert np.count_nonzero(side["symbols"].symbols) < nonzero


def test_dense_gaussian_levels_cost_2_75_bits():
    """s = sqrt n: the gap-coded stream takes 2.75 n bits, by measurement."""
    n = 127**2
    x = jnp.asarray(np.random.default_rng(0).normal(size=n), jnp.float32)
    _, side, _ = jax.jit(compress.qsgd(8, n, "l2", "stream").encode)(x, (), KEYS)
    assert int(wire.bits(side)) / n == pytest.approx(2.75, rel=0.02)


def test_qsgd_arrives_alike_in_every_code():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(30, 7)), jnp.float32)
    arrived = []
    for code in ("fixed", "stream"):
        stage = compress.qsgd(4, 64, "l2", code)
        carrier, side, _ = stage.encode(x, (), KEYS)
        side = wire.unpack(wire.pack(side), side)
        arrived.append(stage.decode(carrier, side, KEYS.shared))
    np.testing.assert_array_equal(*arrived)
