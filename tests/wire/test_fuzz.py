"""Hostile messages: whatever arrives, unpacking ends in one clear line or in symbols.

Checksums are recomputed after the damage, so that the decoders themselves are tried.
"""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import wire
from fedjax_compress.errors import InputError, WireError

CODES = sorted(wire.CODES)
ONE_WAY = {
    "fixed",
    "words",
    "radix",
    "gamma",
    "elias",
    "golomb",
    "bitmask",
    "leading",
}
"""Codes that write the same symbols in one way only."""
SECONDS = 10
"""Processor time that no message of this file may take; all take far less."""
ALPHABETS = (1, 2, 3, 21, 255, 1000)
COUNTS = (1, 2, 9, 150)


def sealed(bits, like):
    """A well-formed message around any bits, with right checksums."""
    body = np.packbits(np.asarray(bits, np.uint8)).tobytes()
    unused = 8 * len(body) - len(bits)
    structure = zlib.crc32("\n".join(map(_line, wire.fields(like))).encode())
    head = struct.pack(">2sBBII", b"FC", 1, unused, len(body), structure)
    return head + struct.pack(">I", zlib.crc32(body)) + body


def _line(field):
    dtype = np.dtype(field.symbols.dtype)
    return f"{list(field.symbols.shape)} {dtype} {field.alphabet} {field.code}"


def body_of(like):
    """The bits of a packed message."""
    data = wire.pack(like)
    bits = np.unpackbits(np.frombuffer(data[16:], np.uint8))
    return bits[: bits.size - data[3]]


def unpacked(data, like):
    """The payload, or None if there was an error; which must be of one line."""
    started, found, said = time.process_time(), None, "symbols"
    try:
        found = wire.unpack(data, like)
    except WireError as error:
        said = str(error)
    assert time.process_time() - started < SECONDS
    assert len(said.splitlines()) == 1
    return found


def examine(data, like):
    """What has been unpacked is in its alphabet and can be packed again."""
    found = unpacked(data, like)
    if found is None:
        return False
    for field, expected in zip(wire.fields(found), wire.fields(like), strict=True):
        symbols = np.asarray(field.symbols)
        assert symbols.shape == expected.symbols.shape
        assert symbols.dtype == expected.symbols.dtype
        assert symbols.max(initial=0) < field.alphabet
        if wire.CODES[field.code].increasing:
            assert (np.diff(symbols.astype(np.int64)) > 0).all()
    again = wire.pack(found)
    if {f.code for f in wire.fields(like)} <= ONE_WAY:
        assert again == data
    for one, other in zip(
        wire.fields(wire.unpack(again, like)), wire.fields(found), strict=True
    ):
        np.testing.assert_array_equal(one.symbols, other.symbols)
    return True


def a_field(draw):
    """A field of any code that takes its alphabet, with allowed symbols."""
    alphabet = draw(st.sampled_from(ALPHABETS))
    n = draw(st.sampled_from(COUNTS))
    names = [name for name in CODES if alphabet <= wire.CODES[name].largest]
    code = draw(st.sampled_from(names))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if wire.CODES[code].increasing:
        n = min(n, alphabet)
        symbols = np.sort(rng.choice(alphabet, n, replace=False))
    else:
        share = rng.dirichlet(np.full(alphabet, draw(st.sampled_from([0.03, 1.0]))))
        symbols = rng.choice(alphabet, n, p=share)
    return wire.Field(symbols.astype(np.uint16), alphabet, code)


@st.composite
def hostile(draw):
    """Bits under right checksums, and the payload that the receiver expects."""
    like = [a_field(draw) for _ in range(draw(st.integers(1, 3)))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    how = draw(st.sampled_from(["random", "flip", "cut", "longer", "shift", "fill"]))
    bits = body_of(like)
    if how == "random":
        size = int(rng.integers(0, 2 * bits.size + 64))
        bits = (rng.random(size) < rng.random()).astype(np.uint8)
    elif how == "flip" and bits.size:
        where = rng.integers(0, bits.size, rng.integers(1, 4))
        bits[where] ^= 1
    elif how == "cut":
        bits = bits[: rng.integers(0, bits.size + 1)]
    elif how == "longer":
        bits = np.append(bits, rng.integers(0, 2, rng.integers(1, 40)))
    elif how == "shift" and bits.size:
        bits = np.roll(bits, int(rng.integers(1, 9)))
    elif how == "fill":
        cut = rng.integers(0, bits.size + 1)
        bits = np.append(bits[:cut], np.full(bits.size, rng.integers(0, 2)))
    return bits.astype(np.uint8), like


@hypothesis.settings(max_examples=300)
@hypothesis.given(hostile())
def test_wrong_bits_under_right_checksums(case):
    bits, like = case
    examine(sealed(bits, like), like)


@pytest.mark.slow
@hypothesis.settings(max_examples=10_000)
@hypothesis.given(hostile())
def test_ten_thousand_wrong_messages(case):
    bits, like = case
    examine(sealed(bits, like), like)


@st.composite
def damaged(draw):
    """Any bytes, or a message with some of them changed; and what is expected."""
    like = [a_field(draw) for _ in range(draw(st.integers(1, 3)))]
    data = wire.pack(like)
    how = draw(st.sampled_from(["any", "bytes", "cut", "longer", "head"]))
    if how == "any":
        return draw(st.binary(max_size=200)), like
    if how == "cut":
        return data[: draw(st.integers(0, len(data) - 1))], like
    if how == "longer":
        return data + draw(st.binary(min_size=1, max_size=50)), like
    size = 16 if how == "head" else len(data)
    at = draw(st.integers(0, size - 1))
    flip = draw(st.integers(1, 255))
    return data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], like


@hypothesis.settings(max_examples=300)
@hypothesis.given(damaged())
def test_every_damage_is_noticed(case):
    data, like = case
    assert unpacked(data, like) is None


@pytest.mark.slow
@hypothesis.settings(max_examples=10_000)
@hypothesis.given(damaged())
def test_ten_thousand_damages_are_noticed(case):
    data, like = case
    assert unpacked(data, like) is None


def test_the_fuzz_reaches_the_decoders():
    """Undamaged bits are taken, random ones are taken sometimes."""
    rng = np.random.default_rng(0)
    for code in CODES:
        symbols = np.array([0, 1, 2, 4, 7])
        like = wire.Field(symbols.astype(np.uint16), 8, code)
        assert examine(sealed(body_of(like), like), like)
    like = wire.Field(np.zeros(3, np.uint16), 3, "radix")
    taken = sum(examine(sealed(rng.integers(0, 2, 5), like), like) for _ in range(200))
    assert 100 < taken < 200


ASK = [c for c in CODES if not c.startswith(("stream", "sparse", "leading"))]
"""Codes that may be asked for 2**31 symbols and more."""


@pytest.mark.parametrize("code", CODES)
def test_huge_counts_allocate_nothing(code):
    """10**12 expected symbols and a body of a few bytes, of zeros, ones or noise."""
    noise = np.random.default_rng(1).integers(0, 2, 400)
    alphabet = 10**12 if wire.CODES[code].increasing else 200
    field = wire.Field(jax.ShapeDtypeStruct((10**6, 10**6), np.uint64), alphabet, code)
    tracemalloc.start()
    try:
        for bits in (np.zeros(400), np.ones(400), noise, np.zeros(0)):
            if code in ("sparse_bitmask", *ASK):
                assert unpacked(sealed(bits, field), field) is None
                continue
            with pytest.raises(InputError, match="at most 2"):
                unpacked(sealed(bits, field), field)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("bit", [0, 1])
def test_long_runs_of_one_bit_end_soon(code, bit):
    """Four million equal bits, where a thousand symbols are expected."""
    field = wire.Field(jnp.zeros(1000, jnp.uint16), 200, code)
    assert not examine(sealed(np.full(2**22, bit), field), field)


@pytest.mark.parametrize(
    ("code", "bits", "reason"),
    [
        ("gamma", "0" * 40, "ends inside"),
        ("gamma", "0" * 12 + "1" * 40, "symbol 8190"),
        ("elias", "1" * 70, "ends inside|symbol"),
        ("huffman", "111111" + "0" * 90, "words of 63 bits"),
        ("huffman", "000010" + "01" * 8 + "0" * 90, "no complete code"),
        ("huffman", "000010" + "00" * 8 + "0" * 90, "no complete code"),
        ("arithmetic", "1" * 90, "add up to 0"),
        ("arithmetic", "0" * 13 + f"{2**13 + 1:b}" + "1" * 90, "add up to"),
        ("zero_runs", "00000000" * 9, "are left|expected"),
        ("zero_runs", "11111111", "expected"),
        ("best", "111" + "0" * 90, "code number 7, where there are 6"),
        ("golomb", "1" * 90, "ends inside"),
        ("bitmask", "11100000", "3 bits set, expected 2"),
        ("fixed", "000001", "unused|are left"),
    ],
)
def test_clear_words(code, bits, reason):
    field = wire.Field(np.zeros(2, np.uint16), 8, code)
    if code == "fixed":
        data = sealed([0] * 6, field)[:-1] + b"\x01"
        data = data[:12] + struct.pack(">I", zlib.crc32(b"\x01")) + data[16:]
    else:
        data = sealed([int(b) for b in bits], field)
    with pytest.raises(WireError, match=reason):
        wire.unpack(data, field)


def test_a_lane_that_does_not_end_where_it_began():
    field = wire.Field(np.arange(200, dtype=np.uint16) % 7, 8, "arithmetic")
    said = set()
    for position in range(1, 17):
        bits = body_of(field)
        bits[-position] ^= 1
        with pytest.raises(WireError) as error:
            wire.unpack(sealed(bits, field), field)
        said.add(str(error.value))
    assert any("does not end where it began" in text for text in said)
