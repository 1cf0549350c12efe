"""Bits of every method against the formulas of the papers, and one foreign decoder."""

from __future__ import annotations

import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.typing import Keys

KEYS = Keys(jax.random.key(1), jax.random.key(2))
N = 1000


def bits(text, tree):
    compressor = compress.parse(text)
    state = compressor.init(tree)
    return int(jax.jit(lambda t: wire.bits(compressor.encode(t, state, KEYS)[0]))(tree))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("identity", 32 * N),
        ("cast", 16 * N),
        ("cast(bfloat16)", 16 * N),
        ("uniform(bits=1)", N + 64),
        ("uniform(bits=4)", 4 * N + 64),
        ("uniform(levels=5)", 3 * N + 64),
        ("uniform(levels=3, code=radix)", 46 * 34 + 23 + 64),  # 14 trits left, 3**14
        ("qsgd(bits=4)", 4 * N + 32 * 2),
        ("qsgd(bits=2, bucket=128)", 2 * N + 32 * 8),
        ("qsgd(bits=8, bucket=7)", 8 * N + 32 * 143),
        ("fedpaq(bits=4)", 4 * N + 32),
        ("one_bit", N + 64),
        ("terngrad", 46 * 34 + 23 + 32),
        ("terngrad(code=fixed)", 2 * N + 32),
        ("dorefa_gradient(bits=3)", 3 * N + 32),
        ("sign", N + 32),
        ("sign(scale=one)", N + 2),
        ("z_sign", N + 2),
        ("z_sign(relative_to=rms)", N + 32),
        ("drive", N + 2 * 32),
        ("eden(bits=3)", 3 * N + 2 * 32),
        ("eden(bits=2.25)", 2 * N + 250 + 2 * 32),
        ("eden(bits=0.1)", 100 + 2 * 32),
        ("hadamard", 32 * N),
        ("hadamard | uniform(bits=4)", 4 * N + 64),
        ("top_k(0.01, indices=fixed)", 10 * (32 + 10)),
        ("top_k(0.01, indices=bitmask)", 32 * 10 + N),
        ("top_k(0.01, indices=fixed) | qsgd(bits=4)", 10 * (4 + 10) + 32),
        ("random_k(0.01)", 32 * 10),
        ("random_k(0.01) | cast", 16 * 10),
        ("random_k(0.1) | hadamard | uniform(bits=2)", 2 * 100 + 64),
        ("error_feedback(top_k(0.01, indices=fixed))", 10 * (32 + 10)),
    ],
)
def test_formula_sheet(text, expected):
    x = jax.random.normal(jax.random.key(0), (N,))
    assert bits(text, x) == expected


def test_a_leaf_costs_its_own_scales_and_its_own_width():
    tree = {
        "a": jnp.ones((3, 5)),
        "b": jnp.ones(7, jnp.bfloat16),
        "c": jnp.ones(()),
        "none": jnp.ones((0, 4)),
    }
    assert bits("identity", tree) == 32 * 15 + 16 * 7 + 32
    assert bits("uniform(bits=4)", tree) == 4 * 23 + 3 * 64
    assert bits("on_vector(uniform(bits=4))", tree) == 4 * 23 + 64
    assert bits("by_label(uniform(bits=4), b=identity)", tree) == 4 * 16 + 128 + 112


def test_two_norm_with_elias_is_shorter_than_fixed_width():
    """Its levels are mostly zero, at one bit each."""
    x = jax.random.normal(jax.random.key(0), (4096,))
    fixed = bits("qsgd(bits=4, norm=l2)", x)
    assert bits("qsgd(bits=4, norm=l2, code=elias)", x) < 0.75 * fixed


def foreign_decoder(data, shapes):
    """Decodes ``uniform(bits=4)`` of leaves in order; knows the documents alone.

    Header: magic, version, unused bits, body length, CRC of the structure, CRC of the
    body, big-endian. Body, for each leaf: minimum and maximum as IEEE-754 binary32,
    then a symbol of four bits for each element in C order; no alignment.
    """
    magic, version, unused, length, _, checksum = struct.unpack(">2sBBIII", data[:16])
    body = data[16:]
    assert (magic, version, length) == (b"FC", 1, len(body))
    assert zlib.crc32(body) == checksum
    text = "".join(f"{byte:08b}" for byte in body)
    text = text[: len(text) - unused]
    at, leaves = 0, []
    for shape in shapes:
        words = [int(text[at + 32 * i : at + 32 * (i + 1)], 2) for i in range(2)]
        low, high = (struct.unpack(">f", struct.pack(">I", w))[0] for w in words)
        at += 64
        n = int(np.prod(shape))
        symbols = [int(text[at + 4 * i : at + 4 * i + 4], 2) for i in range(n)]
        at += 4 * n
        leaf = [low + (high - low) * symbol / 15 for symbol in symbols]
        leaves.append(np.array(leaf).reshape(shape))
    assert at == len(text)
    return leaves


def test_foreign_decoder_reads_our_bytes():
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 7), "b": (5,), "c": (), "d": (2, 2, 3)}
    tree = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    compressor = compress.parse("uniform(bits=4)")
    payload, _ = jax.jit(compressor.encode)(tree, (), KEYS)
    ours = compressor.decode(payload, tree, KEYS.shared)
    theirs = foreign_decoder(wire.pack(payload), shapes.values())
    for mine, other in zip(ours.values(), theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
