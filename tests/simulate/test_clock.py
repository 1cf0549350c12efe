"""Virtual time in the engine: who counts, what it costs, and what must not change.

Local updates are made up: a client's update is its number, so that sums can be read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clocked import (
    BYTES,
    CLIENTS,
    PARAMETERS,
    by_number,
    ladder,
    rounds_of,
    simulator_of,
)
from systems import labelled, setup, updating

from fedjax_compress import algorithms, clock, registry, tree
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.work import Work


def test_a_round_by_hand():
    """Three clients. 4,016 bytes take 32,128 bits: at 10, 20 and 40 kbit/s 3.2128,
    1.6064 and 0.8032 s each way; 6 * 50 * 2 rows operations at 1,000 a second are 0.6,
    1.2 and 1.8 s, coding 2 * 1,000 * 0.1 are 0.2 s; latency is 50 ms."""
    rates = np.array([10e3, 20e3, 40e3])
    when = clock.Clock(
        network=lambda seed, n: np.column_stack([rates, rates, np.full(3, 0.05)]),
        devices=lambda seed, n: np.full(n, 1000.0),
        coding=0.1,
        power=clock.Power(2.0, 1.0, 0.5, 3.0, 0.25, 7.0),
    )
    owner = np.repeat(np.arange(3), [1, 2, 3]).astype(np.int32)
    columns = np.zeros((6, 1), np.float32), np.zeros(6, np.int32)
    simulator = Simulator(
        algorithms.fedavg(setup(updating(by_number))), labelled(*columns, owner, 3),
        cohort=3, sampling=registry.build("sampling", "uniform"), clock=when,
        work=[Work(lambda n: 2 * n, (50.0,), (PARAMETERS,))],
    )  # fmt: skip
    state, (record,) = rounds_of(simulator)
    down = np.array([3.2628, 1.6564, 0.8532])
    compute = np.array([0.8, 1.4, 2.0])
    up = np.array([3.2128, 1.6064, 0.8032])
    total = down + compute + up  # 7.2756, 4.6628, 3.6564
    np.testing.assert_allclose(simulator.timed.spans.total, total, atol=1e-9)
    assert record["virtual_seconds"] == pytest.approx(7.2756, abs=1e-9)
    assert record["download_seconds"] == pytest.approx(down.mean())
    assert record["compute_seconds"] == pytest.approx(compute.mean())
    assert record["upload_seconds"] == pytest.approx(up.mean())
    assert record["waiting_seconds"] == pytest.approx((7.2756 - total).mean())
    mega = np.array([0.01, 0.02, 0.04])
    joules = (mega + 0.5) * down + 3 * compute + (2 * mega + 0.5) * up + 7
    joules += 0.25 * (7.2756 - total)
    assert record["energy_joules"] == pytest.approx(joules.sum())
    assert state.clock.now == record["virtual_seconds"]
    assert "late" not in record


@pytest.mark.parametrize("options", [{"lanes": 1}, {"lanes": 3}, {"devices": 2}])
def test_the_first_who_report_count(options):
    """Of 8 invited for 5, the five of the fastest links: numbers 4 to 8, mean 6. The
    round lasts as long as client 4 takes; 6 of the others have begun to send."""
    when = clock.Clock(network=ladder, over=1.6)
    simulator = simulator_of(when, cohort=5, **options)
    state, (record,) = rounds_of(simulator)
    np.testing.assert_allclose(state.server.params, 6.0, rtol=1e-6)
    one_way = 8 * BYTES / (1000 * np.arange(1, 9))
    seconds = 2 * one_way[3] + 0.25
    assert record["virtual_seconds"] == pytest.approx(seconds)
    begun = (one_way + 0.25 < seconds).sum()
    assert (record["late"], record["lost"], record["sent"]) == (3, 0, begun)
    assert record["bytes_up"] == begun * BYTES
    assert record["bytes_down"] == 8 * BYTES
    assert (record["clients"], record["dropped"]) == (8, 0)
    assert record["train_loss"] == pytest.approx(6.0)


def test_nobody_is_late_without_a_rule_and_nothing_else_changes():
    plain = simulator_of(None)
    timed = simulator_of(clock.Clock(network=ladder))
    (one, (a,)), (other, (b,)) = rounds_of(plain), rounds_of(timed)
    assert tree.sha256(one.server.params) == tree.sha256(other.server.params)
    assert plain.programs.digests == timed.programs.digests
    times = {"seconds", "clients_per_second"}
    assert {k: v for k, v in a.items() if k not in times}.items() <= b.items()
    assert b["virtual_seconds"] == pytest.approx(0.25 + 2 * 8 * BYTES / 1000)


@pytest.mark.parametrize(("state", "after"), [("before", 0), ("reached", 1)])
def test_what_a_late_client_keeps(state, after):
    """The residual of error feedback: of a late client that of before, or the new."""
    when = clock.Clock(network=ladder, over=1.6, keeps=state == "reached")
    link = "error_feedback(top_k(0.5))"
    simulator = simulator_of(when, cohort=5, uplink=link, lanes=3)
    found, _ = rounds_of(simulator)
    states = simulator.client_states(found, np.arange(CLIENTS))
    (residual,) = jax.tree.leaves(states)
    residual = np.abs(np.asarray(residual)).sum(axis=1)
    assert (residual[3:] > 0).all()
    assert [int(x > 0) for x in residual[:3]] == [after] * 3


def test_a_deadline():
    """Twice 32,128 bits: at 3 kbit/s and more within 25 s, so numbers 3 to 8 count."""
    when = clock.Clock(network=ladder, deadline=25.0)
    state, (record,) = rounds_of(simulator_of(when))
    assert record["virtual_seconds"] == 25.0
    assert record["late"] == 2
    np.testing.assert_allclose(state.server.params, np.arange(3, 9).mean(), rtol=1e-6)


@pytest.mark.parametrize("rules", [{"deadline": 2.0}, {"deadline": 25.0, "least": 0.8}])
def test_a_round_that_fails_moves_nothing(rules):
    when = clock.Clock(network=ladder, **rules)
    state, records = rounds_of(simulator_of(when), 2)
    assert [r["failed"] for r in records] == [True, True]
    late = 8 if rules["deadline"] == 2.0 else 2  # who had not reported by then
    assert [r["late"] for r in records] == [late] * 2
    assert [r["virtual_seconds"] for r in records] == [rules["deadline"]] * 2
    np.testing.assert_array_equal(state.server.params, 0.0)
    assert np.isnan(records[0]["train_loss"])


def test_drop_outs_follow_from_the_client_and_the_round():
    when = clock.Clock(network=ladder, dropout=0.4)
    options = [{"lanes": 1}, {"lanes": 4, "rounds_per_call": 3}, {"devices": 2}]
    found = [rounds_of(simulator_of(when, **each), 6) for each in options]
    lost = [r["lost"] for r in found[0][1]]
    assert len(set(lost)) > 1
    for state, records in found:
        assert [r["lost"] for r in records] == lost
        assert [r["sent"] for r in records] == [8 - n for n in lost]
        np.testing.assert_allclose(
            state.server.params, found[0][0].server.params, rtol=1e-5
        )
    seconds = [[r["virtual_seconds"] for r in records] for _, records in found]
    assert seconds[0] == seconds[1] == seconds[2]


@pytest.mark.parametrize("uplink", ["identity", "top_k(0.1)"])
def test_a_resumed_clock_goes_on_bit_for_bit(uplink):
    """Sizes known beforehand, and sizes that are known only afterwards."""
    when = clock.Clock(network=ladder, over=1.6, dropout=0.2)
    simulator = simulator_of(when, cohort=5, uplink=uplink, rounds_per_call=2)
    whole, records = rounds_of(simulator, 6)
    half, first = rounds_of(simulator, 3)
    saved = simulator.snapshot(half)
    other = simulator_of(when, cohort=5, uplink=uplink, rounds_per_call=2)
    other.start(jnp.zeros(PARAMETERS))
    placed = other.place(saved, 3)
    assert placed.clock == half.clock
    assert (placed.clock.up > 0) == (uplink != "identity")
    end, last = other.advance(placed, 3)
    assert tree.sha256(end.server.params) == tree.sha256(whole.server.params)
    seconds = [r["virtual_seconds"] for r in records]
    assert [r["virtual_seconds"] for r in first + last] == seconds
    assert end.clock == whole.clock
    assert whole.clock.now == pytest.approx(sum(seconds), rel=1e-12)


def test_sizes_that_are_known_only_afterwards():
    """The round lasts as long as the true bytes say, whoever was chosen by others."""
    when = clock.Clock(network=ladder, over=1.6)
    simulator = simulator_of(when, cohort=5, uplink="top_k(0.1)", rounds_per_call=4)
    _, records = rounds_of(simulator, 2)
    assert simulator.rounds_per_call == 1
    timed = simulator.timed
    true = records[1]["bytes_up"] / records[1]["sent"]
    up = timed.spans.upload * 1000 * np.arange(1, 9) / 8
    assert up[timed.sent].mean() == pytest.approx(true)
    seconds = timed.spans.total[timed.kept].max()
    assert records[1]["virtual_seconds"] == pytest.approx(seconds)


def test_who_is_away_is_not_invited():
    """Clients 0 to 3 are there in the first ten seconds of each twenty, 4 to 7 in the
    others. Four are wanted and a round takes 4 s: that of the third is lost when they
    leave, at 10, and the fourth is that of the others."""
    spans = np.array([[[0.0, 10.0]]] * 4 + [[[10.0, 20.0]]] * 4)
    there = clock.Activity(spans[:, :, 0], spans[:, :, 1], np.full(8, 20.0))
    rates = np.full(8, 8 * BYTES / 2.0)
    when = clock.Clock(
        network=lambda seed, n: np.column_stack([rates, rates, np.zeros(n)]),
        activity=there,
    )
    state, records = rounds_of(simulator_of(when, cohort=4), 4)
    assert [r["late"] + r["lost"] for r in records] == [0, 0, 4, 0]
    assert records[0]["virtual_seconds"] == pytest.approx(4.0)
    assert records[0]["train_loss"] == pytest.approx(2.5)  # rows 1 to 4
    assert records[3]["train_loss"] == pytest.approx(6.5)  # rows 5 to 8
    assert state.clock.now == pytest.approx(14.0, abs=1e-6)
