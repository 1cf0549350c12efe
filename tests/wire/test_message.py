"""Messages: exact length, exact restoring, and one clear line for damaged ones."""

from __future__ import annotations

import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import tree, wire
from fedjax_compress.errors import InputError, WireError


def payload():
    """A payload with a field of every code, dtype and awkward shape."""
    return {
        "floats": wire.raw(jnp.asarray([[1.5, -0.0, jnp.nan], [jnp.inf, 1e-41, 3.0]])),
        "brains": wire.raw(jnp.asarray([1.0, -2.5, 3e38], jnp.bfloat16)),
        "halves": wire.raw(jnp.asarray([65504.0, 6e-8], jnp.float16), "scales"),
        "ints": wire.raw(jnp.asarray([-1, 2**31 - 1, -(2**31)])),
        "flags": wire.raw(jnp.asarray([True, False, True]), "mask"),
        "nibbles": wire.Field(jnp.arange(13, dtype=jnp.uint8).reshape(13, 1), 13),
        "trits": wire.Field(jnp.arange(61, dtype=jnp.uint8) % 3, 3, "radix"),
        "levels": wire.Field(jnp.asarray([0, 5, 2, 0], jnp.uint16), 300, "elias"),
        "where": wire.Field(jnp.asarray([0, 7, 8, 99]), 100, "golomb", "indices"),
        "mask": wire.Field(jnp.asarray([2, 3], jnp.int32), 5, "bitmask", "indices"),
        "facts": wire.Shape((3, 4), "float32"),
        "nothing": (None, (), wire.Field(jnp.zeros((0, 4), jnp.uint8), 9)),
        "constant": wire.Field(jnp.zeros(6, jnp.uint8), 1),
        "scalar": wire.raw(jnp.float32(2.5)),
    }


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_unpack_restores_bit_for_bit():
    message = payload()
    data = wire.pack(message)
    same(wire.unpack(data, message), message)
    same(wire.unpack(data, tree.shapes(message)), message)


def test_length_is_what_bits_and_size_say():
    message = payload()
    data = wire.pack(message)
    counted = jax.jit(lambda p: (wire.bits(p), wire.size(p)))(message)
    assert len(data) == -(-int(counted[0]) // 8) + 16 == int(counted[1])
    by_hand = 32 * 6 + 16 * 3 + 16 * 2 + 32 * 3 + 3 + 4 * 13 + (46 * 2 + 5)
    by_hand += 0 + 32 + 5 + (1 + 6 + 3 + 1)
    golomb = len(wire.CODES["golomb"].encode(np.array([0, 7, 8, 99]), 100))
    assert int(counted[0]) == by_hand + golomb


def test_layout_by_hand():
    """A message read with nothing but the documented layout."""
    message = (
        wire.Field(jnp.asarray([9, 3, 12], jnp.uint8), 16),
        wire.raw(jnp.float32(1.0)),
        wire.Field(jnp.asarray([2], jnp.uint8), 3),
    )
    data = wire.pack(message)
    magic, version, unused, length, structure, checksum = struct.unpack(
        ">2sBBIII", data[:16]
    )
    bits = "100100111100" + f"{0x3F800000:032b}" + "10"
    assert (magic, version, unused, length) == (b"FC", 1, 2, 6)
    body = int(bits + "00", 2).to_bytes(6, "big")
    assert data[16:] == body
    assert checksum == zlib.crc32(body)
    text = "[3] uint8 16 fixed\n[] float32 4294967296 fixed\n[1] uint8 3 fixed"
    assert structure == zlib.crc32(text.encode())


def test_empty_payload():
    data = wire.pack(())
    assert len(data) == wire.HEADER_BYTES == int(wire.size(()))
    assert wire.unpack(data, ()) == ()


@pytest.mark.parametrize("length", [0, 5, 15, 16, 17, 60, -1])
def test_truncated(length):
    data = wire.pack(payload())
    with pytest.raises(WireError, match=r"cut off|arrived"):
        wire.unpack(data[:length], payload())


def test_every_flipped_bit_is_noticed():
    message = payload()
    data = wire.pack(message)
    for position in range(0, 8 * len(data), 3):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(WireError) as error:
            wire.unpack(bytes(damaged), message)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut off"),
        (b"PK\x03\x04" + bytes(40), "not a message"),
        (b"FC\x02" + bytes(40), "version 2"),
        (b"FC\x01\x00\xff\xff\xff\xff" + bytes(8), "arrived"),
        (b"FC\x01\x09\x00\x00\x00\x00" + bytes(8), "damaged"),
    ],
)
def test_foreign_bytes(data, reason):
    with pytest.raises(WireError, match=reason):
        wire.unpack(data, payload())


@pytest.mark.parametrize(
    "other",
    [
        wire.Field(np.zeros(4, np.uint8), 16),
        wire.Field(np.zeros(3, np.uint16), 16),
        wire.Field(np.zeros(3, np.uint8), 15),
        wire.Field(np.zeros(3, np.uint8), 16, "elias"),
        (wire.Field(np.zeros(3, np.uint8), 16), wire.raw(np.zeros(0))),
    ],
)
def test_another_structure(other):
    data = wire.pack(wire.Field(np.zeros(3, np.uint8), 16))
    with pytest.raises(WireError, match="structure"):
        wire.unpack(data, other)


def sealed(bits, like):
    """A well-formed message around any bits, with right checksums."""
    body = np.packbits(np.asarray(bits, np.uint8)).tobytes()
    unused = 8 * len(body) - len(bits)
    structure = wire.pack(like)[8:12]
    head = struct.pack(">2sBBI", b"FC", 1, unused, len(body))
    return head + structure + struct.pack(">I", zlib.crc32(body)) + body


@pytest.mark.parametrize("code", ["fixed", "radix", "elias", "golomb", "bitmask"])
@pytest.mark.parametrize("bits", [[], [1] * 5, [1] * 400, [0] * 400, [0, 1] * 200])
def test_wrong_bits_under_right_checksums(code, bits):
    """Even a sender that lies about the body gets an error, soon and in one line."""
    like = wire.Field(np.array([0, 3, 5], np.uint8), 6, code)
    with pytest.raises(WireError):
        wire.unpack(sealed(bits, like), like)


def test_claimed_sizes_are_not_believed():
    """A structure of 10**12 symbols allocates nothing if the bytes are few."""
    for code in ("fixed", "radix", "elias"):
        huge = wire.Field(jax.ShapeDtypeStruct((10**6, 10**6), np.uint8), 200, code)
        text = f"[1000000, 1000000] uint8 200 {code}"
        data = struct.pack(">2sBBIII", b"FC", 1, 0, 0, zlib.crc32(text.encode()), 0)
        with pytest.raises(WireError):
            wire.unpack(data, huge)


def test_arrays_outside_a_field_are_refused():
    with pytest.raises(InputError, match="only in a Field"):
        wire.pack({"a": jnp.zeros(3)})
    with pytest.raises(InputError, match="only in a Field"):
        jax.jit(wire.bits)((wire.raw(jnp.zeros(3)), jnp.zeros(2)))


@pytest.mark.parametrize("symbol", [16, -1])
def test_symbols_outside_the_alphabet_are_refused(symbol):
    with pytest.raises(InputError, match=f"symbol {symbol} in a field of 16"):
        wire.pack(wire.Field(np.array([0, symbol], np.int32), 16))


def test_floats_must_be_words():
    with pytest.raises(InputError, match="float32 symbols need an alphabet"):
        wire.pack(wire.Field(np.zeros(3, np.float32), 16))


def test_unknown_code_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'golomb'"):
        wire.bits(wire.Field(np.zeros(3, np.uint8), 16, "golom"))
