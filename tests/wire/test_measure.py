"""Counting: exact, per message, without overflow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import wire
from fedjax_compress.errors import InputError


def shaped(n, alphabet, code="fixed", kind="values", dtype=np.uint8):
    return wire.Field(jax.ShapeDtypeStruct((n,), dtype), alphabet, code, kind)


def test_float32_costs_32_bits_each():
    assert int(wire.bits(wire.raw(jnp.zeros((7, 3))))) == 32 * 21
    assert int(wire.size(wire.raw(jnp.zeros((7, 3))))) == 84 + 16


def test_size_is_right_up_to_two_gigabytes():
    field = shaped(2**31 - 1 - 16, 256)
    assert int(wire.size(field)) == 2**31 - 1
    with pytest.raises(InputError, match="too large"):
        wire.size(shaped(2**31 - 16, 256))


def test_bits_refuses_what_an_int32_cannot_hold():
    assert int(wire.bits(shaped(2**31 - 1, 2))) == 2**31 - 1
    with pytest.raises(InputError, match=r"use wire\.size"):
        wire.bits(shaped(2**28, 256))
    assert int(wire.size(shaped(2**28, 256))) == 2**28 + 16


def test_data_dependent_bits_saturate_and_never_wrap():
    """43 bits for each largest symbol: 50 million of them exceed 2**31 bits."""
    symbol = jnp.asarray(2**31 - 1, jnp.uint32)

    @jax.jit
    def count(symbol):
        field = wire.Field(jnp.broadcast_to(symbol, (50_000_000,)), 2**31, "elias")
        return wire.bits(field), wire.size(field)

    bits, size = count(symbol)
    assert int(bits) == 2**31 - 1
    assert int(size) == 50_000_000 * 43 // 8 + 16


def test_static_and_data_dependent_parts_carry():
    """Left-over bits of several fields add up to whole bytes exactly."""
    rng = np.random.default_rng(0)
    for n in range(1, 9):
        fields = [
            wire.Field(jnp.asarray(rng.integers(0, 40, n)), 40, "elias"),
            wire.Field(jnp.asarray(rng.integers(0, 8, n)), 8),
            wire.Field(jnp.asarray(rng.integers(0, 9, n)), 9, "elias"),
        ]
        assert int(wire.size(fields)) == len(wire.pack(fields))


def test_nominal_size_counts_like_papers():
    """log2 of the alphabet for each symbol; no scales, no header; rounded up."""
    assert int(wire.nominal_size(shaped(100, 3))) == -(-158.496 // 8)
    assert int(wire.nominal_size(shaped(100, 3, "radix"))) == 20
    assert int(wire.nominal_size(shaped(64, 16))) == 32
    assert int(wire.nominal_size(shaped(2, 2**32, kind="scales"))) == 0
    assert int(wire.nominal_size(shaped(8, 100, kind="indices"))) == 7
    assert int(wire.nominal_size(shaped(4, 100, "bitmask", "indices"))) == 13
    assert int(wire.nominal_size(())) == 0


def test_nominal_size_of_entropy_codes_is_the_true_one():
    field = wire.Field(jnp.asarray([0, 1, 3, 0]), 5, "elias")
    assert int(wire.nominal_size(field)) == -(-(1 + 3 + 6 + 1) // 8)
    both = (field, wire.Field(jnp.asarray([1]), 3))
    assert int(wire.nominal_size(both)) == -(-(11 + 1.585) // 8)


def test_sizes_of_lanes():
    """Under vmap there is one number for each message."""
    rows = jnp.asarray([[0, 0, 0], [1, 2, 3], [200, 200, 200]])
    sizes = jax.jit(jax.vmap(lambda r: wire.size(wire.Field(r, 256, "elias"))))(rows)
    assert sizes.tolist() == [
        len(wire.pack(wire.Field(r, 256, "elias"))) for r in np.asarray(rows)
    ]
    static = jax.vmap(lambda r: wire.size(wire.Field(r, 256)))(rows)
    assert static.tolist() == [19, 19, 19]


def test_alphabets_have_symbols():
    with pytest.raises(InputError, match="at least one symbol"):
        wire.bits(wire.Field(jnp.zeros(3, jnp.uint8), 0))
