"""FedGKT by a clock: messages as long as a client has rows, reports that are lost."""

from __future__ import annotations

import numpy as np
import pytest
from three_edges import (
    CLASSES,
    HIDDEN,
    SIZES,
    TASK,
    UNIFORM,
    algorithm,
    data,
    edge,
    params,
    rows_of,
)

from fedjax_compress import clock, registry
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.foresee import messages
from fedjax_compress.simulate.work import work_of

LOCAL = "sgd(lr=0.3, batch=2, epochs=1)"


def simulator_of(made, when):
    work = [work_of(made, registry.build("local", LOCAL, edge()), edge(), TASK)]
    return Simulator(
        made, data(), cohort=len(SIZES), sampling=UNIFORM, clock=when, work=work
    )


def test_the_server_gets_labels_that_were_lost_once():
    """Half of the reports are lost, by clients that keep what they have reached."""
    when = registry.build("clock", "dropout(0.5, state=reached)")
    simulator = simulator_of(algorithm(learns=LOCAL), when)
    state, records = simulator.advance(simulator.start(params()), 6)
    assert records[0]["lost"] > 0
    labels, told = (np.asarray(x) for x in state.store.record)
    assert told.all()
    for client, size in enumerate(SIZES):
        assert np.array_equal(labels[client, :size], rows_of(client)[1])


def test_messages_are_foreseen_as_long_as_clients_have_rows():
    found = messages(algorithm(), data(), params())
    none = np.zeros(len(SIZES), int)
    down, up = found.bytes_of(none, np.asarray(SIZES))
    row = 32 * (HIDDEN + CLASSES) + 2
    np.testing.assert_allclose(up, [16 + (64 + n * row) / 8 for n in SIZES], atol=1)
    logits = 32 * CLASSES
    np.testing.assert_allclose(
        down, [16 + (33 + n * logits) / 8 for n in SIZES], atol=1
    )
    assert not found.exact


def test_who_is_late_is_who_has_many_rows():
    """At 1,000 bit/s the reports of 5, 1 and 7 rows take 1.6, 0.5 and 2.2 seconds."""
    rates = np.array([1e9, 1000.0, 0.0])
    when = clock.Clock(network=lambda seed, n: np.tile(rates, (n, 1)), deadline=2.0)
    simulator = simulator_of(algorithm(learns=LOCAL), when)
    _, records = simulator.advance(simulator.start(params()), 3)
    assert [record["late"] for record in records] == [1, 1, 1]
    assert records[0]["upload_seconds"] == pytest.approx((1.6 + 0.5) / 2, rel=0.1)
