"""Whole messages squeezed: they come back, and no damage goes unnoticed."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
import zstandard

from fedjax_compress import tree, wire
from fedjax_compress.errors import InputError, WireError

METHODS = ["deflate", "zstd"]


def payload():
    rng = np.random.default_rng(0)
    skewed = rng.choice(5, 999, p=[0.9, 0.04, 0.03, 0.02, 0.01]).astype(np.uint8)
    return {
        "nibbles": wire.Field(jnp.asarray(skewed), 5),
        "trits": wire.Field(jnp.asarray(skewed[:61] % 3), 3, "radix"),
        "wide": wire.Field(jnp.asarray([0, 70_000], jnp.uint32), 70_001),
        "floats": wire.raw(jnp.asarray([1.5, -0.0, jnp.nan])),
        "brains": wire.raw(jnp.asarray([1.0, -2.5], jnp.bfloat16)),
        "levels": wire.Field(jnp.asarray([0, 5, 2], jnp.uint16), 300, "elias"),
        "where": wire.Field(jnp.asarray([0, 7, 8, 99]), 100, "golomb", "indices"),
        "best": wire.Field(jnp.asarray(skewed), 5, "best"),
        "nothing": (None, wire.Field(jnp.zeros((0, 4), jnp.uint8), 9)),
        "constant": wire.Field(jnp.zeros(6, jnp.uint8), 1),
    }


def head(magic, length, structure, body):
    return struct.pack(">2sBBII", magic, 1, 0, length, structure) + struct.pack(
        ">I", zlib.crc32(body)
    )


@pytest.mark.parametrize("method", METHODS)
def test_squeezed_messages_come_back(method):
    message = payload()
    data = wire.squeeze(message, method)
    for like in (message, tree.shapes(message)):
        again = wire.unsqueeze(data, like, method)
        for x, y in zip(wire.fields(again), wire.fields(message), strict=True):
            assert x.symbols.dtype == y.symbols.dtype
            assert np.asarray(x.symbols).tobytes() == np.asarray(y.symbols).tobytes()
    assert wire.unsqueeze(wire.squeeze((), method), (), method) == ()


def test_bodies_are_what_other_programs_read():
    """One byte for each symbol, in a zlib or zstandard frame."""
    symbols = np.array([3, 0, 0, 9], np.uint8)
    message = (wire.Field(symbols, 10), wire.raw(jnp.float32(1.0)))
    plain = bytes([3, 0, 0, 9]) + struct.pack(">f", 1.0)
    deflated = wire.squeeze(message, "deflate")
    assert zlib.decompress(deflated[16:]) == plain
    assert deflated[:8] == b"FD\x01\x00" + struct.pack(">I", len(plain))
    zipped = wire.squeeze(message, "zstd")
    assert zstandard.ZstdDecompressor().decompress(zipped[16:]) == plain
    assert zipped[8:12] == deflated[8:12] == wire.pack(message)[8:12]


def test_whole_sizes_are_lengths():
    message = payload()
    sizes = wire.whole_sizes(message)
    assert list(sizes) == ["packed", "deflate", "zstd"]
    assert sizes["packed"] == len(wire.pack(message))
    for method in METHODS:
        assert sizes[method] == len(wire.squeeze(message, method))
    long = wire.Field(np.zeros(80_000, np.uint8), 16)
    assert wire.whole_sizes(long)["deflate"] < 200 < wire.whole_sizes(long)["packed"]


@pytest.mark.parametrize("method", METHODS)
def test_every_damage_is_noticed(method):
    message = payload()
    data = wire.squeeze(message, method)
    cases = [data[:n] for n in (0, 9, 16, 30, len(data) - 1)]
    cases += [data + b"x", wire.pack(message)]
    cases += [wire.squeeze(message, other) for other in METHODS if other != method]
    for position in range(0, 8 * len(data), 7):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        cases.append(bytes(flipped))
    for case in cases:
        with pytest.raises(WireError) as error:
            wire.unsqueeze(case, message, method)
        assert "\n" not in str(error.value)
    with pytest.raises(WireError, match="another structure"):
        wire.unsqueeze(data, message["nibbles"], method)


@pytest.mark.parametrize("method", METHODS)
def test_hostile_bodies_under_right_checksums(method):
    """Noise, frames cut short or too long, and frames that unfold to gigabytes."""
    rng = np.random.default_rng(1)
    like = wire.Field(np.zeros(100, np.uint8), 16)
    good = wire.squeeze(like, method)
    magic, structure = good[:2], int.from_bytes(good[8:12], "big")

    def refused(body, length):
        data = head(magic, length, structure, body) + body
        with pytest.raises(WireError) as error:
            wire.unsqueeze(data, like, method)
        assert "\n" not in str(error.value)

    body = good[16:]
    press = {
        "deflate": zlib.compress,
        "zstd": zstandard.ZstdCompressor(level=9).compress,
    }[method]
    huge = press(bytes(2**26))
    tracemalloc.start()
    try:
        for wrong in (body[:-1], body + b"x", body + body, b"", huge):
            refused(wrong, 100)
        for length in (0, 99, 101, 2**31, 2**32 - 1):
            refused(body, length)
        for _ in range(300):
            refused(rng.bytes(rng.integers(0, 60)), 100)
            bits = bytearray(body)
            bits[rng.integers(len(bits))] ^= 1 << rng.integers(8)
            data = head(magic, 100, structure, bytes(bits)) + bytes(bits)
            try:
                found = wire.unsqueeze(data, like, method)
            except WireError:
                continue
            assert np.asarray(found.symbols).max() < 16
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    refused(press(bytes([200] * 100)), 100)  # symbols outside the alphabet


def test_unknown_ways():
    with pytest.raises(InputError, match="'gzip'; known: deflate, zstd"):
        wire.squeeze((), "gzip")
    with pytest.raises(InputError, match="did you mean 'zstd'"):
        wire.unsqueeze(b"", (), "zst")
