"""Codes of sparse fields: bits by hand, counted equals written, damage is refused."""

from __future__ import annotations

import functools
import math
import time

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from fedjax_compress import wire
from fedjax_compress.errors import InputError, WireError
from fedjax_compress.numerics.bitset import over_gaps, pack_mask, select
from fedjax_compress.wire.codes.sparse_gaps import rice_limits, rice_parameter

SPARSE = sorted(name for name in wire.CODES if name.startswith("sparse_"))
TERNARY = [0, 0, 1, 0, 0, 0, 2, 0, 0, 1]
"""Elements 2, 6 and 9 of ten are sent; their values minus 1 are 0, 1, 0."""


def written(code, symbols, alphabet):
    bits = wire.CODES[code].encode(np.asarray(symbols, np.uint32), alphabet)
    return "".join(map(str, bits))


def read(code, text, n, alphabet):
    """The symbols in a text of bits, all of which must be used."""
    text = text.replace(" ", "")
    reader = wire.BitReader(np.array([int(b) for b in text], np.uint8))
    symbols = wire.CODES[code].decode(reader, n, alphabet)
    assert reader.position == len(text)
    return symbols.tolist()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sparse_fixed", "0011 0010 0110 1001 010"),
        ("sparse_words", f"0011 {2:031b} 0 {6:031b} 1 {9:031b} 0"),
        ("sparse_bitmask", "0010001001 010"),
        # 3 of 10: Rice parameter 1; zeros in between 2, 3, 2.
        ("sparse_golomb", "0011 100 101 100 010"),
        ("sparse_runs", f"0011 {2:016b} {3:016b} {2:016b} 010"),
    ],
)
def test_ten_ternary_elements_by_hand(code, expected):
    expected = expected.replace(" ", "")
    assert written(code, TERNARY, 3) == expected
    assert read(code, expected, 10, 3) == TERNARY
    assert int(wire.bits(wire.Field(jnp.array(TERNARY), 3, code))) == len(expected)


@pytest.mark.parametrize(
    ("code", "positions"),
    [
        ("sparse_fixed", "001100"),
        ("sparse_words", f"{1:032b}{4:032b}"),
        ("sparse_golomb", "10110"),  # 2 of 5: parameter 0; zeros 1, 2
        ("sparse_runs", f"{1:016b}{2:016b}"),
    ],
)
def test_floats_travel_as_their_bit_patterns(code, positions):
    """1.5 at 1 and -2 at 4 of five; IEEE-754: 0x3FC00000 and 0xC0000000."""
    x = jnp.array([0, 1.5, 0, 0, -2], jnp.float32)
    text = "010" + positions + f"{0x3FC00000:032b}{0xC0000000:032b}"
    field = wire.Field(x, 2**32, code)
    assert written(code, np.asarray(x).view(np.uint32), 2**32) == text
    assert int(wire.bits(field)) == len(text)
    np.testing.assert_array_equal(wire.unpack(wire.pack(field), field).symbols, x)


def test_runs_longer_than_a_word_by_hand():
    """65534 zeros fit; 65535 take an escape and 0; 68928 an escape and 3393."""
    symbols = np.zeros(200_000, np.uint8)
    symbols[[65_534, 131_070, 199_999]] = 1
    words = [65_534, 65_535, 0, 65_535, 3_393]
    text = f"{3:018b}" + "".join(f"{w:016b}" for w in words)
    assert written("sparse_runs", symbols, 2) == text
    assert int(wire.bits(wire.Field(jnp.asarray(symbols), 2, "sparse_runs"))) == 98
    assert read("sparse_runs", text, 200_000, 2) == symbols.tolist()


@functools.partial(jax.jit, static_argnums=1)
def counted(symbols, alphabet):
    """Bits under every code."""
    return [wire.bits(wire.Field(symbols, alphabet, code)) for code in SPARSE]


def patterns(n, alphabet, data):
    """None sent, all sent, or any."""
    kind = data.draw(st.sampled_from(["none", "all", "any", "few"]))
    if kind == "none" or alphabet == 1:
        return np.zeros(n, np.uint32)
    symbol = st.integers(1, alphabet - 1)
    drawn = np.array(data.draw(st.lists(symbol, min_size=n, max_size=n)), np.uint32)
    if kind == "all":
        return drawn
    share = 0.5 if kind == "any" else 0.03
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    return np.where(rng.random(n) < share, drawn, 0).astype(np.uint32)


@given(st.data())
def test_what_is_written_is_counted_and_comes_back(data):
    n = data.draw(st.sampled_from([1, 70]))
    alphabet = data.draw(st.sampled_from([1, 3, 4, 17, 2**32]))
    symbols = patterns(n, alphabet, data)
    sizes = counted(jnp.asarray(symbols), alphabet)
    for code, size in zip(SPARSE, sizes, strict=True):
        text = written(code, symbols, alphabet)
        assert len(text) == int(size)
        assert read(code, text, n, alphabet) == symbols.tolist()


@pytest.mark.parametrize("code", SPARSE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_patterns_that_compare_equal_to_zero_are_counted_as_they_are_sent(code, dtype):
    """-0.0, subnormals, infinities and NaN; compiled and on the host."""
    x = jnp.array([0.0, -0.0, 1e-41, 6e-8, jnp.inf, 0.0, jnp.nan, 3.0], dtype)
    field = wire.Field(x, 2 ** (8 * x.dtype.itemsize), code)
    packed = wire.pack(field)
    assert int(jax.jit(wire.size)(field)) == len(packed)
    words = f"u{x.dtype.itemsize}"
    again = np.asarray(wire.unpack(packed, field).symbols)
    np.testing.assert_array_equal(again.view(words), np.asarray(x).view(words))


@pytest.mark.parametrize(
    ("code", "text", "n", "alphabet", "reason"),
    [
        ("sparse_fixed", "1011", 10, 3, "11 elements sent of 10"),
        ("sparse_fixed", "0010 0110 0110 00", 10, 3, "do not increase"),
        ("sparse_fixed", "0001 1010 0", 10, 3, "position 10 among 10"),
        ("sparse_fixed", "0001 0001 11", 10, 4, None),
        ("sparse_fixed", "0001 0001 00", 10, 4, "no symbol of an element sent"),
        ("sparse_fixed", "0001 0001 11", 10, 5, None),
        ("sparse_fixed", "0001 0001 111", 10, 6, "no symbol of an element sent"),
        ("sparse_fixed", "0010 0001", 10, 2, "the message ends"),
        ("sparse_words", "0001" + "1" * 32, 10, 3, "position 2147483647 among 10"),
        ("sparse_words", "0010" + "0" * 64, 10, 3, "do not increase"),
        ("sparse_bitmask", "111", 4, 3, "the message ends"),
        ("sparse_bitmask", "1110 01", 4, 3, "the message ends"),
        ("sparse_golomb", "0001 11111", 10, 2, "the message ends inside"),
        # 2 of 10: Rice parameter 2; zeros in between 11 and 0.
        ("sparse_golomb", "0010 11011 000", 10, 2, "index 12 among 10"),
        ("sparse_runs", f"0001 {10:016b} 0", 10, 3, "position 10 among"),
        ("sparse_runs", "0010" + "0" * 16, 10, 2, "1 runs of zeros, expected 2"),
        ("sparse_runs", "0001" + "1" * 16, 10, 2, "0 runs of zeros, expected 1"),
    ],
)
def test_damaged_bits_by_hand(code, text, n, alphabet, reason):
    if reason is None:
        read(code, text, n, alphabet)
        return
    with pytest.raises(WireError, match=reason):
        read(code, text, n, alphabet)


@pytest.mark.parametrize("code", SPARSE)
def test_random_bits_end_soon(code):
    """However many elements a damaged count announces."""
    rng = np.random.default_rng(1)
    n, ended = 1_000_000, 0
    started = time.process_time()
    for alphabet in (2, 3, 2**32):
        for _ in range(20):
            bits = (rng.random(3000) < rng.random()).astype(np.uint8)
            try:
                symbols = wire.CODES[code].decode(wire.BitReader(bits), n, alphabet)
            except WireError:
                ended += 1
                continue
            assert symbols.size == n
            assert symbols.max() < alphabet
    assert time.process_time() - started < 5
    assert ended


@pytest.mark.parametrize("code", SPARSE)
def test_too_many_elements_for_positions_of_31_bits(code):
    like = jax.ShapeDtypeStruct((2**31,), jnp.uint8)
    with pytest.raises(InputError, match="at most 2\\*\\*31 - 1 elements"):
        wire.bits(wire.Field(like, 3, code))


@pytest.mark.parametrize("p", [0.9, 0.5, 0.382, 0.25, 0.1, 0.03, 0.01, 1e-3, 1e-4])
def test_rice_parameter_is_nearly_the_best(p):
    """Expected bits of geometric gaps, within half a percent of the best parameter."""

    def bits(m):
        miss = (1 - p) ** (2**m)
        return m + 1 + miss / (1 - miss)

    n = 10_000_000
    assert bits(rice_parameter(round(p * n), n)) <= 1.005 * min(map(bits, range(31)))


def test_rice_parameter_uses_integers_alone():
    """Limits fall with j; hand-computed: 481212 n // (10**6 2**j + 240606), n = 10."""
    assert rice_limits(10)[:4] == (3, 2, 1, 0)
    assert [rice_parameter(k, 10) for k in (0, 1, 2, 3, 4, 10)] == [0, 3, 2, 1, 0, 0]
    limits = rice_limits(2**31 - 1)
    assert all(type(x) is int for x in limits)
    assert list(limits) == sorted(limits, reverse=True)


def test_golomb_of_a_sparse_field_is_close_to_the_information_bound():
    """log2 C(n, k) for 1 % of 200 000, within 2 %; the sign bits on top."""
    rng = np.random.default_rng(0)
    n, k = 200_000, 2000
    symbols = np.zeros(n, np.uint8)
    symbols[rng.choice(n, k, replace=False)] = rng.integers(1, 3, k)
    bound = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / (
        math.log(2)
    )
    size = int(wire.bits(wire.Field(jnp.asarray(symbols), 3, "sparse_golomb")))
    assert bound <= size - k <= 1.02 * bound


@pytest.mark.parametrize("code", SPARSE)
def test_large_fields_are_fast(code):
    """1.6 million elements in seconds of processor time, both ways; and counted."""
    rng = np.random.default_rng(3)
    symbols = (rng.random(1_600_000) < 0.01) * rng.integers(1, 3, 1_600_000)
    field = wire.Field(jnp.asarray(symbols.astype(np.uint8)), 3, code)
    started = time.process_time()
    packed = wire.pack(field)
    again = wire.unpack(packed, field)
    assert time.process_time() - started < 4
    np.testing.assert_array_equal(again.symbols, symbols)
    assert len(packed) == int(jax.jit(wire.size)(field))


@jax.jit
def on_bits(mask):
    words = pack_mask(mask)
    found = select(words, jnp.arange(mask.size, dtype=jnp.int32))
    return words, found, over_gaps(words, lambda zeros: zeros * zeros + 1)


@given(st.sampled_from([1, 32, 33, 200]), st.integers(0, 99), st.floats(0, 1))
def test_bitsets_equal_numpy(n, seed, density):
    mask = np.random.default_rng(seed).random(n) < density
    words, found, parts = map(np.asarray, on_bits(jnp.asarray(mask)))
    positions = np.flatnonzero(mask)
    text = "".join(f"{w:032b}"[::-1] for w in words)
    assert text == "".join("01"[int(b)] for b in mask).ljust(len(text), "0")
    np.testing.assert_array_equal(found[: positions.size], positions)
    gaps = np.diff(positions, prepend=-1) - 1
    assert int(parts.sum()) == int((gaps**2 + 1).sum())
