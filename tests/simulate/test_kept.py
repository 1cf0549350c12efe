"""What the server keeps of each client: by client over rounds, wherever it lives.

The local update here is made up, so that a round compiles in no time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup, updating

from fedjax_compress import algorithms, registry, tree, wire
from fedjax_compress.simulate import Simulator

CLIENTS, COHORT, ROUNDS, BROKEN = 7, 4, 6, 2
UNIFORM = registry.build("sampling", "uniform")


class Log(NamedTuple):
    """The record of a client: how often it has been heard, and the sum of what it
    has sent."""

    heard: Any
    total: Any


def train(params, shard, key):
    """An update of the client's size; that of client ``BROKEN`` is not finite."""
    size = shard.size.astype(jnp.float32)
    update = jnp.where(size == 1 + BROKEN, jnp.nan, size * jnp.ones(3))
    return update, {"loss": jnp.ones(()), "examples": size}


def logging():
    """FedAvg whose server logs its clients, and tells each how often it was heard; the
    client keeps what it was told last."""
    plain = algorithms.fedavg(setup(updating(train)))

    def unicast(server, record, context):
        return wire.raw(record.heard)

    def client(view, alone, state, shard, context):
        report = plain.client(view, alone, state[0], shard, context)
        return report._replace(state=(report.state, alone.symbols))

    def reduce(server, payload, weight, record, context):
        acc, _ = plain.reduce(server, payload, weight, (), context)
        sent, _ = plain.reduce(server, payload, jnp.ones(()), (), context)
        return acc, Log(record.heard + 1, tree.add(record.total, sent.sent.total))

    return plain._replace(
        unicast=unicast,
        client=client,
        reduce=reduce,
        client_init=lambda params: (plain.client_init(params), jnp.asarray(-1)),
        record_init=lambda params: Log(jnp.asarray(0), tree.zeros_like(params)),
    )


@pytest.mark.parametrize(
    ("options", "resident"),
    [
        ({"lanes": 1}, True),
        ({"lanes": 4, "rounds_per_call": 4}, True),
        ({"lanes": 2, "resident_limit": 0}, False),
        ({"lanes": 1, "devices": 2}, False),
    ],
    ids=["device", "calls", "host", "devices"],
)
def test_a_record_is_kept_by_client_over_rounds(options, resident):
    """Of a client that is left out, the old one."""
    owner = np.repeat(np.arange(CLIENTS), 1 + np.arange(CLIENTS)).astype(np.int32)
    rows = np.zeros((len(owner), 1), np.float32), np.zeros(len(owner), np.int32)
    simulator = Simulator(
        logging(), labelled(*rows, owner), cohort=COHORT, sampling=UNIFORM, **options
    )
    state = simulator.start(jnp.zeros(3))
    state, records = simulator.advance(state, ROUNDS)
    assert simulator.resident == resident
    saved = jax.tree.map(np.asarray, simulator.snapshot(state)["store"])
    drawn = [UNIFORM(0, r, simulator.sizes, COHORT) for r in range(ROUNDS)]
    times = np.bincount(np.concatenate(drawn), minlength=CLIENTS)
    assert times[BROKEN] > 0
    assert times.max() > 2
    times[BROKEN] = 0
    ids, kept = saved["ids"], saved["rows"]
    assert set(np.flatnonzero(times)) <= set(ids.tolist())
    np.testing.assert_array_equal(kept.record.heard, times[ids])
    np.testing.assert_array_equal(kept.state[1], times[ids] - 1)
    totals = np.repeat((times * (1 + np.arange(CLIENTS)))[:, None], 3, axis=1)
    np.testing.assert_array_equal(kept.record.total, totals[ids])
    each = wire.HEADER_BYTES + 4
    broadcast = wire.HEADER_BYTES + 4 * 3
    assert [r["bytes_down"] for r in records] == [COHORT * (each + broadcast)] * ROUNDS
