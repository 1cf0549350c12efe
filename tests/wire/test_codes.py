"""Every code: bits counted in jit equal bits written, and reading restores."""

from __future__ import annotations

import heapq
import math
import time

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from fedjax_compress import wire
from fedjax_compress.errors import InputError, WireError
from fedjax_compress.wire.codes.arithmetic import count_frequencies, frequencies, lanes
from fedjax_compress.wire.codes.best import choices
from fedjax_compress.wire.codes.elias import omega_length
from fedjax_compress.wire.codes.gamma import gamma_length
from fedjax_compress.wire.codes.golomb import parameter
from fedjax_compress.wire.codes.huffman import word_lengths
from fedjax_compress.wire.codes.radix import block

SYMBOLS = [name for name, code in wire.CODES.items() if not code.increasing]
INDICES = ["golomb", "bitmask", "fixed", "words", "best"]
COUNT = jax.jit(wire.bits)
SHAPES = [(1, 67), (3, 67), (255, 67), (2**31, 67), (16, 1), (2**31, 1)]
"""Alphabets and numbers of symbols; each pair is a program for every code."""


def bits_of(code, symbols, alphabet):
    """The bits that a code writes, as text."""
    written = wire.CODES[code].encode(np.asarray(symbols, np.uint32), alphabet)
    return "".join(map(str, written))


def round_trip(code, symbols, alphabet):
    """Writes and reads between other bits; checks length against the count."""
    symbols = np.asarray(symbols, np.uint32)
    field = wire.Field(jnp.asarray(symbols), alphabet, code)
    written = wire.CODES[code].encode(symbols, alphabet)
    assert set(np.unique(written)) <= {0, 1}
    assert int(COUNT(field)) == written.size
    reader = wire.BitReader(np.concatenate([[1, 0, 1], written, [1, 1]]).astype("u1"))
    reader.take(3)
    again = wire.CODES[code].decode(reader, symbols.size, alphabet)
    np.testing.assert_array_equal(again, symbols)
    assert reader.position == 3 + written.size
    return written.size


@settings(max_examples=40)
@given(st.data())
def test_any_symbols_come_back(data):
    alphabet, n = data.draw(st.sampled_from(SHAPES))
    symbols = data.draw(st.lists(st.integers(0, alphabet - 1), min_size=n, max_size=n))
    for code in SYMBOLS:
        if alphabet <= wire.CODES[code].largest:
            round_trip(code, symbols, alphabet)


@given(st.data())
def test_any_set_of_indices_comes_back(data):
    alphabet, n = data.draw(st.sampled_from([(1, 1), (33, 30), (1000, 30), (33, 0)]))
    numbers = st.integers(0, alphabet - 1)
    chosen = data.draw(st.sets(numbers, min_size=n, max_size=n))
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


@pytest.mark.parametrize("code", sorted(wire.CODES))
def test_random_bits_end_in_an_error_or_in_symbols(code):
    """Damaged streams never hang and never give symbols outside the alphabet."""
    rng = np.random.default_rng(1)
    ended = 0
    for trial in range(200):
        bits = (rng.random(40) < rng.random()).astype(np.uint8)
        reader = wire.BitReader(bits)
        try:
            symbols = wire.CODES[code].decode(reader, 1 + trial % 9, 21)
        except WireError:
            ended += 1
            continue
        assert reader.position <= bits.size
        if wire.CODES[code].increasing:
            assert (np.diff(symbols.astype(np.int64)) > 0).all()
        if code not in ("fixed", "best", "present"):  # whose symbols the message checks
            assert symbols.max() < 21
    assert ended or code == "fixed"


def test_gamma_check_values():
    """Lengths 2 floor(log2 k) + 1, and code words from Elias' table."""
    lengths = {1: 1, 2: 3, 3: 3, 4: 5, 7: 5, 8: 7, 16: 9, 100: 13, 1000: 19, 65536: 33}
    assert gamma_length(jnp.asarray(list(lengths))).tolist() == list(lengths.values())
    words = {1: "1", 2: "010", 3: "011", 4: "00100", 7: "00111", 8: "0001000"}
    for number, word in words.items():
        assert bits_of("gamma", [number - 1], 2**31) == word
    assert round_trip("gamma", [2**31 - 1, 0, 2**31 - 1], 2**31) == 2 * 63 + 1


def test_words_by_hand():
    assert bits_of("words", [5, 0], 9) == f"{5:032b}{0:032b}"


def test_huffman_by_hand():
    # Counts 5, 2, 1, 1: words of 1, 2, 3, 3 bits: 0, 10, 110, 111. Longest 3: lengths
    # in two bits each.
    symbols = [0, 1, 0, 2, 0, 3, 0, 1, 0]
    head = "000011" + "01" + "10" + "11" + "11"
    words = "0" + "10" + "0" + "110" + "0" + "111" + "0" + "10" + "0"
    assert bits_of("huffman", symbols, 4) == head + words
    # The same with a symbol that does not occur, and words in the order of symbols.
    head = "000011" + "11" + "00" + "11" + "10" + "01"
    assert bits_of("huffman", [4, 4, 4, 4, 4, 3, 3, 2, 0], 5) == (
        head + "0" * 5 + "10" * 2 + "111" + "110"
    )
    # One symbol alone: its number, and nothing for the others.
    assert bits_of("huffman", [6] * 50, 7) == "000000" + "110"


def shortest_words(counts):
    """The total of the best prefix code, by trying the sum of merges with a heap."""
    heap = [c for c in counts if c]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total


@pytest.mark.parametrize("alphabet", [2, 3, 16, 17, 256])
def test_huffman_words_are_the_shortest(alphabet):
    rng = np.random.default_rng(alphabet)
    for spread in (0.02, 0.1, 1.0):
        share = np.exp(-np.arange(alphabet) / (alphabet * spread))
        symbols = rng.choice(alphabet, 700, p=share / share.sum())
        counts = np.bincount(symbols, minlength=alphabet)
        longest = int(word_lengths(counts).max())
        head = 6 + alphabet * longest.bit_length() if longest else 0
        if longest:
            size = round_trip("huffman", symbols, alphabet)
            assert size == head + shortest_words(counts)


def test_the_deepest_huffman_tree():
    """Fibonacci counts make a comb; 26 symbols a word of 25 bits."""
    counts = [1, 1]
    while len(counts) < 26:
        counts.append(counts[-1] + counts[-2])
    lengths = word_lengths(np.array(counts))
    assert lengths.tolist() == [25, 25, *range(24, 0, -1)]
    symbols = np.repeat(np.arange(26), counts)
    size = round_trip("huffman", symbols, 26)
    assert size == 6 + 26 * 5 + int(np.dot(counts, lengths))


def test_arithmetic_by_hand():
    """One lane, three symbols, followed in whole numbers."""
    # Counts 2 and 1 of three: free = 2**14 - 2; f = 1 + 10921, 1 + 5460; one part of
    # 2**14 is left and goes to the first.
    f = [10923, 5461]
    assert frequencies(np.array([2, 1])).tolist() == f
    x, words = 2**16, []
    for symbol in (0, 1, 0):  # read as 0, 1, 0, so written from the last to the first
        if x >> 18 >= f[symbol]:
            words, x = [x & 0xFFFF, *words], x >> 16
        x = (x // f[symbol] << 14) + x % f[symbol] + (0, 10923)[symbol]
    gammas = "0" * 13 + f"{10924:b}" + "0" * 12 + f"{5462:b}"
    body = f"{x:032b}" + "".join(f"{w:016b}" for w in words)
    assert bits_of("arithmetic", [0, 1, 0], 2) == gammas + body


def test_frequencies_are_the_same_in_the_program():
    rng = np.random.default_rng(4)
    count = jax.jit(count_frequencies, static_argnums=1)
    for n in (2**30, 10**6 + 3):
        for alphabet in (2, 300, 4096):
            share = rng.dirichlet(np.full(alphabet, 0.05))
            counts = np.floor(share * (n - alphabet)).astype(np.int64)
            counts[rng.integers(alphabet)] += n - counts.sum()
            found = frequencies(counts)
            assert found.sum() == 2**14
            assert ((found > 0) == (counts > 0)).all()
            on_device = count(jnp.asarray(counts, jnp.int32), n)
            np.testing.assert_array_equal(on_device, found)


def test_arithmetic_is_close_to_the_entropy():
    """Skewed ternary symbols: within one percent and the states of the lanes."""
    rng = np.random.default_rng(5)
    n = 40_000
    symbols = rng.choice(3, n, p=[0.95, 0.03, 0.02])
    share = np.bincount(symbols) / n
    entropy = -n * np.sum(share * np.log2(share))
    size = round_trip("arithmetic", symbols, 3)
    assert entropy <= size <= 1.01 * entropy + 32 * lanes(n) + 3 * 29
    # Huffman cannot go below a bit a symbol.
    assert size < 0.4 * round_trip("huffman", symbols, 3)


def test_arithmetic_of_one_symbol_alone():
    """Nothing but the model: f = 2**14 in 29 bits, two absent symbols in a bit each."""
    assert round_trip("arithmetic", [1] * 10_000, 3) == 31


def test_zero_runs_by_hand():
    # Groups of five trits: 00000 x 3, 10002, 00000, 2 (filled up).
    symbols = [0] * 15 + [1, 0, 0, 0, 2] + [0] * 5 + [2]
    written = [243 + 1, 83, 0, 162]
    assert bits_of("zero_runs", symbols, 3) == "".join(f"{b:08b}" for b in written)
    # Runs of 14 groups at most: 30 groups are 14 + 14 + 2.
    assert bits_of("zero_runs", [0] * 150, 3) == "".join(
        f"{b:08b}" for b in (255, 255, 243)
    )


def test_best_is_the_shortest_and_says_which():
    rng = np.random.default_rng(6)
    seen = set()
    cases = [
        (rng.integers(0, 16, 500), 16),
        (rng.integers(0, 3, 500), 3),
        (rng.geometric(0.5, 40) - 1, 2**20),
        (np.full(8, 2**9), 2**20),
        (np.repeat(np.arange(8), 2 ** np.arange(8)), 8),
        (rng.choice(3, 9000, p=[0.9, 0.06, 0.04]), 3),
        (np.zeros(60, int), 3),
        (np.sort(rng.choice(5000, 50, replace=False)), 5000),
        (np.sort(rng.choice(100, 40, replace=False)), 100),
    ]
    for symbols, alphabet in cases:
        text = bits_of("best", symbols, alphabet)
        names = choices(len(symbols), alphabet)
        name = names[int(text[:3], 2)]
        assert text[3:] == bits_of(name, symbols, alphabet)
        increasing = (np.diff(symbols) > 0).all()
        for other in names:
            if increasing or not wire.CODES[other].increasing:
                assert len(text) - 3 <= len(bits_of(other, symbols, alphabet))
        assert round_trip("best", symbols, alphabet) == len(text)
        seen.add(name)
    assert len(seen) >= 7


def test_the_numbers_of_the_codes_on_the_wire():
    symbols = ["fixed", "radix", "gamma", "elias", "huffman", "arithmetic", "zero_runs"]
    positions = ["fixed", "radix", "gamma", "elias", "golomb", "bitmask"]
    assert choices(16, 15) == symbols
    assert choices(15, 15) == positions
    assert choices(10**6, 300) == [*symbols[:4], "arithmetic"]


def test_a_code_refuses_alphabets_that_are_too_large():
    field = wire.Field(np.zeros(3, np.uint16), 300, "huffman")
    for work in (wire.bits, wire.pack):
        with pytest.raises(InputError, match="huffman takes alphabets of up to 256"):
            work(field)


@pytest.mark.parametrize("code", ["gamma", "elias", "huffman", "arithmetic", "best"])
def test_floats_are_counted_as_the_words_they_are(code):
    """A float16 or int8 array as a field of words, in codes of several lengths."""
    for array in (np.array([0, -3, 7, -128], np.int8), np.array([1, 2], np.float16)):
        field = wire.raw(jnp.asarray(array))
        field = wire.Field(field.symbols, field.alphabet, code)
        if field.alphabet <= wire.CODES[code].largest:
            data = wire.pack(field)
            assert len(data) == int(wire.size(field))
            np.testing.assert_array_equal(wire.unpack(data, field).symbols, array)


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

    @jax.jit
    @jax.vmap
    def count(row):
        return {code: wire.bits(wire.Field(row, 32, code)) for code in wire.CODES}

    for code, found in count(rows).items():
        alone = [len(bits_of(code, r, 32)) for r in np.asarray(rows)]
        assert found.tolist() == alone
