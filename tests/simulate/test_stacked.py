"""Algorithms whose server gets the accumulator of every client, side by side.

The local update here is made up, so that a round compiles in no time.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup, updating

from fedjax_compress import algorithms, registry
from fedjax_compress.errors import InputError
from fedjax_compress.runtime import host
from fedjax_compress.simulate import Simulator

CLIENTS, COHORT, ROUNDS, BROKEN = 7, 6, 4, 2
LAYOUTS = [
    {"lanes": 1},
    {"lanes": 4},
    {"lanes": 4, "rounds_per_call": 3},
    {"lanes": 1, "devices": 2},
    {"lanes": 4, "devices": 2},
]
UNIFORM = registry.build("sampling", "uniform")


def update_of(size):
    """Of a client with so many rows; each element has another order of clients."""
    return np.asarray([size, -size * size, (size - 3.0) ** 2, 5.0 / size], np.float32)


def train(params, shard, key):
    """As ``update_of``, but that of client ``BROKEN`` is not finite."""
    size = shard.size.astype(jnp.float32)
    update = jnp.stack([size, -size * size, (size - 3.0) ** 2, 5.0 / size])
    metrics = {"loss": jnp.ones(()), "examples": size}
    return jnp.where(size == 1 + BROKEN, jnp.nan, update), metrics


def stacking(choose):
    """FedAvg whose server moves by what ``choose(stacked)`` makes of the updates."""
    plain = algorithms.fedavg(setup(updating(train)))

    def reduce(server, payload, weight, record, context):
        sums, record = plain.reduce(server, payload, jnp.ones(()), record, context)
        return sums.sent.total, record

    def server(server, stacked, context):
        return server._replace(params=server.params + choose(stacked))

    return plain._replace(reduce=reduce, server=server, reduction="stack")


def median(stacked):
    """Of the usable ones, coordinate by coordinate."""
    usable = jnp.where(stacked.ok[:, None], stacked.each, jnp.nan)
    return jnp.nanmedian(usable, axis=0)


def first(stacked):
    """The first that is usable."""
    return stacked.each[jnp.argmax(stacked.ok)]


def run(choose, **options):
    """Client c has c + 1 rows."""
    owner = np.repeat(np.arange(CLIENTS), 1 + np.arange(CLIENTS)).astype(np.int32)
    rows = np.zeros((len(owner), 1), np.float32), np.zeros(len(owner), np.int32)
    simulator = Simulator(
        stacking(choose), labelled(*rows, owner), cohort=COHORT, sampling=UNIFORM,
        **options,
    )  # fmt: skip
    state, records = simulator.advance(simulator.start(jnp.zeros(4)), ROUNDS)
    return np.asarray(state.server.params), records


def usable_ids(number):
    """Of a round, in their order."""
    drawn = UNIFORM(0, number, 1 + np.arange(CLIENTS), COHORT)
    return sorted(set(drawn.tolist()) - {BROKEN})


@pytest.mark.parametrize("options", LAYOUTS)
def test_a_server_may_take_the_median(options):
    """Dummies, and the client whose report is not finite, are no part of it."""
    found, records = run(median, **options)
    counts = {len(usable_ids(number)) for number in range(ROUNDS)}
    assert counts == {5, 6}, "an odd number of usable ones, and an even one"
    assert [r["dropped"] for r in records] == [
        COHORT - len(usable_ids(number)) for number in range(ROUNDS)
    ]
    expected = sum(
        np.median([update_of(1 + c) for c in usable_ids(number)], axis=0)
        for number in range(ROUNDS)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(found, run(median, lanes=2)[0])


@pytest.mark.parametrize("options", LAYOUTS)
def test_clients_stand_in_the_order_of_their_ids(options):
    found, _ = run(first, **options)
    expected = sum(update_of(1 + usable_ids(number)[0]) for number in range(ROUNDS))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 2])
def test_what_no_device_can_hold_is_refused(monkeypatch, devices):
    """Four floats, a client id, and whether it is usable: 21 bytes for each seat."""
    seats = COHORT + COHORT % 2
    monkeypatch.setattr(host, "memory", lambda device: 21 * seats - 1)
    with pytest.raises(InputError, match=r"side by side, and a .* GB; lower"):
        run(median, lanes=1, devices=devices)
    monkeypatch.setattr(host, "memory", lambda device: 21 * seats)
    run(median, lanes=1, devices=devices)
