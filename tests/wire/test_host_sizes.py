"""Sizes found on the host: equal to the counted ones; entropy by hand."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import wire


def test_entropy_by_hand():
    # Four of one and two of each of two others: 8 * 1.5 bits.
    symbols = wire.Field(np.array([0, 0, 0, 0, 1, 1, 3, 3], np.uint8), 16)
    assert wire.entropy(symbols) == pytest.approx(12)
    # 3 of 5 positions: one of ten sets.
    where = wire.Field(np.array([0, 2, 3]), 5, "golomb", "indices")
    assert wire.entropy(where) == pytest.approx(math.log2(10))
    # Floats have the bits that they have, equal or not.
    assert wire.entropy(wire.raw(jnp.ones(7))) == 7 * 32
    assert wire.entropy((symbols, where)) == pytest.approx(12 + math.log2(10))
    constant = wire.Field(np.full(9, 2, np.uint8), 4)
    assert wire.entropy([(), constant, wire.Field(np.zeros(0, np.uint8), 4)]) == 0


def test_entropy_is_below_every_code():
    """Of symbols: whatever the code, it must also say which histogram it was."""
    rng = np.random.default_rng(0)
    symbols = rng.choice(5, 600, p=[0.7, 0.1, 0.1, 0.05, 0.05])
    for name, code in wire.CODES.items():
        if not code.increasing:
            field = wire.Field(symbols.astype(np.uint8), 5, name)
            assert wire.entropy(field) < wire.field_sizes(field)[0].bits


def test_sizes_of_fields_are_the_counted_ones():
    payload = {
        "a": wire.Field(np.array([0, 1, 3, 0], np.uint8), 5, "elias"),
        "b": wire.raw(jnp.ones(2), "scales"),
        "c": wire.Field(np.array([0, 2, 1], np.uint8), 3, "radix"),
        "d": wire.Field(np.array([1, 5]), 9, "bitmask", "indices"),
    }
    sizes = wire.field_sizes(payload)
    assert [s.kind for s in sizes] == ["values", "scales", "values", "indices"]
    assert [s.bits for s in sizes] == [1 + 3 + 6 + 1, 64, 5, 9]
    assert sum(s.bits for s in sizes) == int(wire.bits(payload))
    nominal = [11, 0, 3 * math.log2(3), 9]
    assert [s.nominal for s in sizes] == pytest.approx(nominal)
    total = int(wire.nominal_size(payload))
    assert total == math.ceil(sum(s.nominal for s in sizes) / 8)
