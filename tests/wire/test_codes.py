"""Every code: bits counted in jit equal bits written, and reading restores."""

from __future__ import annotations

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
from fedjax_compress.wire.elias import omega_length
from fedjax_compress.wire.golomb import parameter
from fedjax_compress.wire.radix import block

SYMBOLS = [name for name in wire.codes if name not in ("golomb", "bitmask")]
INDICES = ["golomb", "bitmask", "fixed"]


def bits_of(code, symbols, alphabet):
    """The bits that a code writes, as text."""
    written = wire.codes[code].encode(np.asarray(symbols, np.uint32), alphabet)
    return "".join(map(str, written))


def round_trip(code, symbols, alphabet):
    """Writes and reads between other bits; checks length against the count."""
    symbols = np.asarray(symbols, np.uint32)
    field = wire.Field(jnp.asarray(symbols), alphabet, code)
    written = wire.codes[code].encode(symbols, alphabet)
    assert set(np.unique(written)) <= {0, 1}
    assert int(wire.bits(field)) == written.size
    reader = wire.BitReader(np.concatenate([[1, 0, 1], written, [1, 1]]).astype("u1"))
    reader.take(3)
    again = wire.codes[code].decode(reader, symbols.size, alphabet)
    np.testing.assert_array_equal(again, symbols)
    assert reader.position == 3 + written.size
    return written.size


@given(st.data())
def test_any_symbols_come_back(data):
    alphabet = data.draw(st.sampled_from([1, 2, 3, 5, 15, 16, 17, 255, 1000, 2**31]))
    n = data.draw(st.sampled_from([0, 1, 30, 67]))
    symbols = data.draw(st.lists(st.integers(0, alphabet - 1), min_size=n, max_size=n))
    for code in SYMBOLS:
        round_trip(code, symbols, alphabet)


@given(st.data())
def test_any_set_of_indices_comes_back(data):
    alphabet = data.draw(st.sampled_from([1, 2, 33, 1000]))
    chosen = data.draw(st.sets(st.integers(0, alphabet - 1), max_size=60))
    for code in INDICES:
        round_trip(code, sorted(chosen), alphabet)


def test_fixed_width_by_hand():
    assert bits_of("fixed", [5, 0, 9], 10) == "010100001001"
    assert bits_of("fixed", [0, 0], 1) == ""
    assert bits_of("fixed", [1, 0, 1], 2) == "101"


def test_radix_by_hand():
    # 2*81 + 1*27 + 0*9 + 2*3 + 1 = 196, five trits in eight bits.
    assert bits_of("radix", [2, 1, 0, 2, 1], 3) == f"{196:08b}"
    # Three symbols of five in seven bits, 5**3 = 125; the fourth alone in three.
    assert bits_of("radix", [4, 3, 2, 1], 5) == f"{4 * 25 + 3 * 5 + 2:07b}001"
    assert round_trip("radix", [2] * 29, 3) == 46
    assert round_trip("radix", [2] * 30, 3) == 48


@pytest.mark.parametrize("alphabet", [3, 5, 6, 7, 10, 15, 31, 100, 255])
def test_radix_is_within_two_percent_of_the_entropy(alphabet):
    m = block(alphabet)
    assert alphabet**m < 2**63
    word = (alphabet**m - 1).bit_length()
    assert math.log2(alphabet) <= word / m <= 1.02 * math.log2(alphabet)
    for other in range(1, 63):
        if alphabet**other < 2**63:
            assert word / m <= (alphabet**other - 1).bit_length() / other


def test_radix_needs_no_blocks_for_powers_of_two():
    assert [block(2**b) for b in (1, 2, 7, 16)] == [1, 1, 1, 1]


def test_elias_omega_check_values():
    """Lengths from the definition's chain, and code words from Elias' table."""
    lengths = {1: 1, 2: 3, 3: 3, 4: 6, 7: 6, 8: 7, 16: 11, 100: 13, 1000: 17}
    lengths[65536] = 28
    counted = omega_length(jnp.asarray(list(lengths)))
    assert counted.tolist() == list(lengths.values())
    words = {1: "0", 2: "100", 3: "110", 4: "101000", 7: "101110", 8: "1110000"}
    words[16] = "10100100000"
    for number, word in words.items():
        assert bits_of("elias", [number - 1], 2**31) == word


def test_elias_of_the_largest_number():
    size = round_trip("elias", [2**31 - 1, 0, 2**31 - 1], 2**31)
    # 2**31 -> 31 -> 4 -> 2 -> 1: 32 + 5 + 3 + 2 + 1 bits.
    assert size == 2 * 43 + 1


def test_rice_parameter_is_the_best_one():
    """The rule finds the shortest code for geometric gaps, p from 0.5 to 0.001."""
    for p, best in {0.5: 0, 0.1: 3, 0.01: 6, 0.001: 9}.items():
        assert parameter(round(1_000_000 * p), 1_000_000) == best


def test_golomb_by_hand():
    # 3 of 12: p = 0.25, m = 1. Gaps - 1 from index -1: 2, 0, 6.
    assert parameter(3, 12) == 1
    assert bits_of("golomb", [2, 3, 10], 12) == "1000011100"


def test_golomb_is_close_to_the_information_bound():
    """log2 C(n, k) is a lower bound for the mean; within 2 % of it at one percent."""
    rng = np.random.default_rng(0)
    n, k = 200_000, 2000
    chosen = np.sort(rng.choice(n, k, replace=False))
    bound = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / (
        math.log(2)
    )
    assert bound <= round_trip("golomb", chosen, n) <= 1.02 * bound


def test_bitmask_by_hand():
    assert bits_of("bitmask", [0, 3, 4], 6) == "100110"


@pytest.mark.parametrize("code", ["golomb", "bitmask"])
def test_indices_must_increase(code):
    field = wire.Field(np.array([3, 3], np.int32), 9, code)
    with pytest.raises(InputError, match="strictly increasing"):
        wire.pack(field)


@pytest.mark.parametrize("code", SYMBOLS + INDICES)
def test_no_symbols_cost_nothing_but_a_bitmap(code):
    assert round_trip(code, [], 7) == (7 if code == "bitmask" else 0)


@pytest.mark.parametrize("code", sorted(wire.codes))
def test_random_bits_end_in_an_error_or_in_symbols(code):
    """Damaged streams never hang and never give symbols outside the alphabet."""
    rng = np.random.default_rng(1)
    ended = 0
    for trial in range(200):
        bits = (rng.random(40) < rng.random()).astype(np.uint8)
        reader = wire.BitReader(bits)
        try:
            symbols = wire.codes[code].decode(reader, 1 + trial % 9, 21)
        except WireError:
            ended += 1
            continue
        assert reader.position <= bits.size
        if code in ("golomb", "bitmask"):
            assert (np.diff(symbols.astype(np.int64)) > 0).all()
        if code != "fixed":  # whose symbols the message checks
            assert symbols.max() < 21
    assert ended or code == "fixed"


def test_long_elias_streams_cross_the_chunks():
    rng = np.random.default_rng(2)
    symbols = np.minimum(rng.geometric(0.05, 400_000) - 1, 2**16)
    assert round_trip("elias", symbols, 2**16 + 1) > 2 * 2**20


@pytest.mark.parametrize(("code", "alphabet"), [("fixed", 16), ("radix", 3)])
def test_packing_is_vectorised(code, alphabet):
    """1.6 million symbols in well under a second of processor time, both ways."""
    symbols = np.random.default_rng(3).integers(0, alphabet, 1_600_000)
    field = wire.Field(symbols.astype(np.uint8), alphabet, code)
    started = time.process_time()
    again = wire.unpack(wire.pack(field), field)
    assert time.process_time() - started < 2
    np.testing.assert_array_equal(again.symbols, symbols)


def test_codes_count_under_vmap():
    """One number for each lane, though every lane is a message of its own."""
    rows = jnp.asarray([[0, 1, 2, 3], [1, 5, 9, 30], [7, 8, 20, 31]])
    for code in sorted(wire.codes):
        lanes = jax.vmap(lambda r, c=code: wire.bits(wire.Field(r, 32, c)))(rows)
        alone = [len(bits_of(code, r, 32)) for r in np.asarray(rows)]
        assert lanes.tolist() == alone
