"""Messages of rows: what counts is what travels, and comes back as it was."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.errors import InputError, WireError
from fedjax_compress.typing import Keys

ROWS = 7


def message(text, used, seed=0, shape=(3, 5)):
    """Rows that a link has made of random numbers, one by one, and their labels."""
    link = compress.parse(text)
    values = jax.random.normal(jax.random.key(seed), (ROWS, *shape))
    keys = jax.random.split(jax.random.key(1), ROWS)

    def one(x, key):
        return link.encode({"x": x}, (), Keys(key, key))[0]

    each = {"x": jax.vmap(one)(values, keys), "label": _labels()}
    return {"rows": wire.ragged(each, used), "scale": wire.raw(jnp.ones(2))}


def _labels():
    return wire.Field(jnp.arange(ROWS, dtype=jnp.uint8) % 3, 3)


LINKS = [
    "identity",
    "uniform(bits=3)",
    "qsgd(bits=2, code=elias)",
    "on_leaves(top_k(0.4))",
    "on_leaves(hadamard | uniform(bits=1, code=huffman))",
]


@pytest.mark.parametrize("text", LINKS)
@pytest.mark.parametrize("used", [0, 1, 4, ROWS])
def test_counted_bits_are_packed_bits_and_come_back(text, used):
    payload = message(text, used)
    data = wire.pack(payload)
    assert int(jax.jit(wire.size)(payload)) == len(data)
    bits = int(wire.bits(payload))
    assert len(data) == 16 + -(-bits // 8)
    shapes = jax.eval_shape(lambda: payload)
    for like in (payload, shapes):
        found = wire.unpack(data, like)
        assert jax.tree.structure(found) == jax.tree.structure(payload)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(payload), strict=True):
            assert a.dtype == b.dtype
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert not wire.foreseen(payload)[1]


def test_a_row_costs_what_it_says():
    """15 floats and a label of 2 bits for each row, the number of rows, two floats."""
    for used in range(ROWS + 1):
        payload = message("identity", used)
        assert int(wire.bits(payload)) == 32 + used * (15 * 32 + 2) + 64
        # log2(3) bits a label, rounded up with its row.
        nominal = -(-(used * (15 * 32 + 2) + 64) // 8)
        assert int(wire.nominal_size(payload)) == nominal
    assert wire.foreseen(payload)[0] == 16 + -(-(32 + ROWS * 482 + 64) // 8)


def test_what_lies_behind_is_zero():
    payload = message("identity", 2)["rows"]
    symbols = payload.each["label"].symbols
    assert symbols.tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_clients_side_by_side_have_rows_of_their_own():
    used = jnp.array([0, 3, 7, 5])
    together = jax.vmap(lambda n: message("uniform(bits=3)", n))(used)
    sizes = jax.vmap(wire.size)(together)
    for i, n in enumerate(used):
        one = jax.tree.map(lambda x, i=i: x[i], together)
        assert len(wire.pack(one)) == sizes[i]
        assert int(one["rows"].used) == n


def test_large_messages_do_not_overflow():
    """2,999 rows of 2**20 bits are 3.1 Gbit."""

    @jax.jit
    def size():
        symbols = jnp.zeros((3000, 2**15), jnp.uint8)
        return wire.size(wire.Ragged(wire.Field(symbols, 2**32), jnp.int32(2999)))

    assert int(size()) == 16 + 4 + 2999 * 2**17


def test_damage_is_told():
    payload = message("uniform(bits=3)", 3)
    data = bytearray(wire.pack(payload))
    fewer = message("uniform(bits=3)", 3, shape=(3, 4))
    with pytest.raises(WireError, match="another structure"):
        wire.unpack(bytes(data), fewer)
    for place in range(len(data)):
        changed = data.copy()
        changed[place] ^= 1
        with pytest.raises(WireError):
            wire.unpack(bytes(changed), payload)
    many = wire.Ragged(payload["rows"].each, jnp.int32(ROWS + 1))
    with pytest.raises((InputError, WireError, IndexError)):
        wire.unpack(wire.pack({"rows": many, "scale": payload["scale"]}), payload)
