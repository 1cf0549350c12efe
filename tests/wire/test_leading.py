"""Leading symbols, and the shortest form of a sparse field: by hand, and counted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import wire
from fedjax_compress.errors import InputError, WireError
from fedjax_compress.wire.codes.sparse_best import forms

COUNT = jax.jit(wire.bits)


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
    ("symbols", "alphabet", "text"),
    [
        ([5, 0, 2, 0, 0, 0], 6, "011 101 000 010"),
        ([0, 0, 0, 0, 0, 0], 6, "000"),
        ([0, 0, 1], 2, "11 001"),
        ([0, 0], 1, "00"),
        ([0, 7, 0], 2**32, f"10 {0:032b} {7:032b}"),
    ],
)
def test_leading_by_hand(symbols, alphabet, text):
    assert written("leading", symbols, alphabet) == text.replace(" ", "")
    assert read("leading", text, len(symbols), alphabet) == symbols
    field = wire.Field(jnp.array(symbols, jnp.uint32), alphabet, "leading")
    assert int(COUNT(field)) == len(text.replace(" ", ""))


def test_any_symbols_come_back_and_their_bits_are_counted():
    rng = np.random.default_rng(0)
    for n, alphabet in ((1, 2), (40, 3), (40, 2**32)):
        for k in range(0, n + 1, 5):
            symbols = rng.integers(0, alphabet, n, np.uint64).astype(np.uint32)
            symbols[k:] = 0
            field = wire.Field(jnp.asarray(symbols), alphabet, "leading")
            text = written("leading", symbols, alphabet)
            assert int(COUNT(field)) == len(text)
            assert read("leading", text, n, alphabet) == symbols.tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_bit_pattern_of_floats_decides(dtype):
    """-0.0 and the least subnormal are sent, 0.0 at the end is not."""
    for last, k in ((0.0, 2), (-0.0, 4), ("least", 4)):
        words = np.dtype(f"u{jnp.dtype(dtype).itemsize}")
        x = np.array([1, -2, 0, 0, 0], np.float32).astype(jnp.dtype(dtype))
        pattern = np.array([1], words).view(x.dtype)[0]
        x[3] = pattern if last == "least" else last
        field = wire.Field(jnp.asarray(x), 2 ** (8 * words.itemsize), "leading")
        assert int(COUNT(field)) == 3 + k * 8 * words.itemsize
        packed = wire.pack(field)
        assert len(packed) == int(wire.size(field))
        again = np.asarray(wire.unpack(packed, field).symbols)
        np.testing.assert_array_equal(again.view(words), x.view(words))


@pytest.mark.parametrize(
    ("text", "n", "alphabet", "reason"),
    [
        ("111", 6, 3, "7 elements sent of 6"),
        ("010 01 00", 6, 3, "the last of 2 leading symbols is 0"),
        ("010 11 01", 6, 3, "symbol 3 in a field of 3"),
        ("010 01 0", 6, 3, "the message ends"),
        ("01", 6, 3, "the message ends"),
        ("01", 2, 1, "the last of 1 leading symbols is 0"),
    ],
)
def test_damage_of_leading_by_hand(text, n, alphabet, reason):
    with pytest.raises(WireError, match=reason):
        read("leading", text, n, alphabet)


def test_too_many_elements_are_refused_and_huge_counts_do_not_wrap():
    like = jax.ShapeDtypeStruct((2**31,), jnp.uint8)
    with pytest.raises(InputError, match="at most 2\\*\\*31 - 1 elements"):
        wire.bits(wire.Field(like, 3, "leading"))
    lengths = wire.CODES["leading"].lengths(
        wire.Field(jnp.ones(100, jnp.float32), 2**32, "leading")
    )
    assert lengths.tolist() == [7] + [100] * 32


def test_forms_of_a_mask_by_hand():
    """Of 16: number in 3 bits, count in 5, positions in 4 when fixed."""
    one = np.zeros(16, np.uint32)
    one[3] = 1
    # Rice parameter of 1 in 16: 3; three zeros in front.
    assert wire.CODES["sparse_golomb"].encode(one, 2).size == 5 + 4
    assert written("sparse_best", one, 2) == "001" + "00001" + "0011"
    assert written("sparse_best", 1 - one, 2) == "100" + "00001" + "0011"
    half = np.arange(16, dtype=np.uint32) % 2
    assert written("sparse_best", half, 2) == "000" + "01" * 8
    assert written("sparse_best", 0 * one, 2) == "001" + "00000"
    assert written("sparse_best", 0 * one + 1, 2) == "100" + "00000"
    with pytest.raises(WireError, match="form number 7, where there are 7"):
        read("sparse_best", "111" + "0" * 16, 16, 2)


@pytest.mark.parametrize("alphabet", [2, 7])
def test_best_is_the_shortest_form_and_says_which(alphabet):
    rng = np.random.default_rng(1)
    choice, seen = forms(alphabet), set()
    width = (len(choice) - 1).bit_length()
    for n in (1, 300, 40_000):
        for density in (0, 1e-4, 0.02, 0.5, 0.98, 0.9999, 1):
            drawn = rng.integers(1, alphabet, n, np.uint64).astype(np.uint32)
            symbols = np.where(rng.random(n) < density, drawn, 0)
            text = written("sparse_best", symbols, alphabet)
            sizes = [
                len(written(f.code, symbols == 0 if f.dropped else symbols, alphabet))
                for f in choice
            ]
            assert len(text) == width + min(sizes)
            assert int(text[:width], 2) == sizes.index(min(sizes))
            assert read("sparse_best", text, n, alphabet) == symbols.tolist()
            field = wire.Field(jnp.asarray(symbols), alphabet, "sparse_best")
            assert int(COUNT(field)) == len(text)
            seen.add(sizes.index(min(sizes)))
    assert len(seen) >= (4 if alphabet == 2 else 3)
