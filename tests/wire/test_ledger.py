"""The account is kept in whole Python numbers."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress import wire
from fedjax_compress.errors import InputError


def test_adds_beyond_every_machine_word():
    ledger = wire.Ledger()
    sizes = np.full(1000, 2**31 - 1, np.int32)
    for _ in range(50):
        ledger.up(sizes, sizes - 16)
    assert ledger.bytes_up == 50_000 * (2**31 - 1)
    assert ledger.nominal_bytes_up == 50_000 * (2**31 - 17)
    assert ledger.messages_up == 50_000
    assert type(ledger.bytes_up) is int
    # Adding a single byte still shows, which it would not in float32 or float64.
    ledger.up([1], [0])
    assert ledger.bytes_up == 50_000 * (2**31 - 1) + 1
    assert ledger.bytes_down == 0


def test_directions_are_apart():
    ledger = wire.Ledger()
    ledger.down([3, 4], [1, 1])
    ledger.up(np.array([5]), np.array([2]))
    assert (ledger.bytes_up, ledger.bytes_down) == (5, 7)
    assert (ledger.nominal_bytes_up, ledger.nominal_bytes_down) == (2, 2)
    assert (ledger.messages_up, ledger.messages_down) == (1, 2)


@pytest.mark.parametrize("size", [1.5, -1])
def test_only_whole_bytes(size):
    with pytest.raises(InputError, match="whole number of bytes"):
        wire.Ledger().up([size], [0])


def test_a_nominal_size_for_each_message():
    with pytest.raises(InputError, match="2 sizes, but 1 nominal"):
        wire.Ledger().up([1, 2], [1])
