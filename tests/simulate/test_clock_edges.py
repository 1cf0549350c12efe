"""Virtual time at its edges: pauses, losses, failures, energy, bad numbers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from clocked import (
    BYTES,
    CLIENTS,
    SIZES,
    by_number,
    ladder,
    rounds_of,
    simulator_of,
)
from systems import labelled, setup, updating

from fedjax_compress import algorithms, clock, registry
from fedjax_compress.errors import Diverged, InputError
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.foresee import Messages
from fedjax_compress.simulate.readings import Reading
from fedjax_compress.simulate.timing import Timer
from fedjax_compress.simulate.work import Work


def test_infinite_rates_leave_the_latency():
    when = clock.parse("network(unlimited, latency=250) | devices(gflops=1e30)")
    _, (record,) = rounds_of(simulator_of(when, macs=1e6))
    assert record["virtual_seconds"] == pytest.approx(0.25)


def test_pauses_in_a_round():
    """Client 7 is there for a second of each hundred, the others all the time. A
    message takes 2 s each way: 7 has received half of one when the round ends at 20 s,
    so it has sent nothing; at a watt of the radio it has drawn 1 J, the others 4."""
    starts, ends = np.zeros((8, 1)), np.full((8, 1), 100.0)
    ends[7] = 1.0
    rates = np.full(8, 8 * BYTES / 2.0)
    when = clock.Clock(
        network=lambda seed, n: np.column_stack([rates, rates, np.zeros(n)]),
        activity=clock.Activity(starts, ends, np.full(8, 100.0), pauses=True),
        power=clock.Power(0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        deadline=20.0,
    )
    simulator = simulator_of(when)
    state, (record,) = rounds_of(simulator)
    assert (record["late"], record["lost"], record["sent"]) == (1, 0, 7)
    assert record["bytes_up"] == 7 * BYTES
    assert record["energy_joules"] == pytest.approx(7 * 4 + 1)
    assert record["virtual_seconds"] == 20.0
    np.testing.assert_allclose(state.server.params, np.arange(1, 8).mean(), rtol=1e-6)
    # A client that pauses and is waited for draws nothing while it is away.
    when = when._replace(deadline=np.inf)
    _, (record,) = rounds_of(simulator_of(when))
    assert record["virtual_seconds"] == pytest.approx(300.0 + 1)
    assert record["energy_joules"] == pytest.approx(8 * 4)


def test_energy_of_who_is_late_or_lost():
    """Eight clients compute for 1 to 8 s at 1 W and nothing else takes time; five are
    wanted, so the round ends at 5 s: the late ones break off there, and idle none. A
    client that is lost computes until it is gone, or the round is over."""
    when = clock.Clock(
        devices=lambda seed, n: 6 * 2 * np.ones(n),
        power=clock.Power(0.0, 0.0, 0.0, 1.0, 0.5, 0.0),
        over=1.6,
    )
    _, (record,) = rounds_of(simulator_of(when, cohort=5, macs=1.0))
    assert record["virtual_seconds"] == pytest.approx(5.0)
    assert record["energy_joules"] == pytest.approx(15 + 3 * 5 + 0.5 * (4 + 3 + 2 + 1))
    one_gone = clock.Activity(
        np.zeros((8, 1)), np.where(np.arange(8) == 6, 4.0, 100.0)[:, None],
        np.full(8, 100.0),
    )  # fmt: skip
    simulator = simulator_of(when._replace(over=1.0, activity=one_gone), macs=1.0)
    _, (record,) = rounds_of(simulator)
    assert record["lost"] == 1
    idle = 0.5 * sum(8 - c for c in (1, 2, 3, 4, 5, 6))
    assert record["energy_joules"] == pytest.approx(36 - 7 + 4 + idle)


def test_who_is_lost_sends_nothing():
    """A watt of the radio: all receive, those who do not drop out send as well."""
    when = clock.Clock(
        network=lambda seed, n: np.column_stack([np.full((n, 2), 1e3), np.zeros(n)]),
        power=clock.Power(0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        dropout=0.5,
    )
    _, records = rounds_of(simulator_of(when), 4)
    assert sum(r["lost"] for r in records) > 4
    one_way = 8 * BYTES / 1e3
    for r in records:
        assert r["energy_joules"] == pytest.approx(one_way * (8 + r["sent"]))
        assert r["sent"] == 8 - r["lost"]


def test_who_is_counted_on_is_waited_for_beyond_a_deadline():
    """Foreseen at 10 s, taking 20 by its true bytes."""
    when = clock.Clock(network=ladder, deadline=15.0)
    work = [Work(lambda n: n, (0.0,), (1,))]
    timer = Timer(when, work, 0, SIZES, CLIENTS)
    timer.messages = [Messages((100,), (100,), False)]
    ids = np.arange(CLIENTS)
    plan = timer.plan(0, ids, np.zeros(CLIENTS, int), 0, Reading(), 0.0)
    assert plan.choice.kept.all()
    sent = np.full(CLIENTS, 2000)
    timed = timer.settle(plan, sent, sent, Reading())
    assert timed.figures["virtual_seconds"] == pytest.approx(0.25 + 32.0)
    assert timed.figures["waiting_seconds"] >= 0
    assert (timed.reading.down, timed.reading.up) == (20, 20)
    # The next round is foreseen by these.
    after = timer.foreseen(ids, 0, timed.reading)
    np.testing.assert_allclose(after.download, timed.spans.download)
    np.testing.assert_allclose(after.upload, timed.spans.upload)


def test_a_round_that_fails_may_be_the_last():
    when = clock.Clock(network=ladder, deadline=2.0, ends=True)
    simulator = simulator_of(when, rounds_per_call=6)
    state, records = rounds_of(simulator, 6)
    assert [r["failed"] for r in records] == [True]
    assert state.round == 1


@pytest.mark.parametrize("calls", [1, 3])
def test_a_round_that_fails_without_a_deadline_lasts_until_all_is_known(calls):
    when = clock.Clock(network=ladder, deadline=np.inf, least=0.9, dropout=0.4)
    always = clock.Activity(np.zeros((8, 1)), np.ones((8, 1)), np.ones(8))
    simulator = simulator_of(when._replace(activity=always), rounds_per_call=calls)
    state, records = rounds_of(simulator, 6)
    assert sum(r.get("failed", False) for r in records) > 1
    total = sum(r["virtual_seconds"] for r in records)
    assert state.clock.now == pytest.approx(total)


@pytest.mark.parametrize("calls", [1, 5])
def test_a_round_that_is_taken_back_takes_no_time(calls):
    """The model is not finite after the third round: the state is the second's."""

    owner = np.repeat(np.arange(CLIENTS), SIZES).astype(np.int32)
    columns = np.zeros((len(owner), 1), np.float32), np.zeros(len(owner), np.int32)
    server = registry.build("server", "fedavg")
    grown = server._replace(
        apply=lambda update, state, params, context: (
            jnp.where(params > 8, jnp.inf, params + update), state
        )
    )  # fmt: skip
    simulator = Simulator(
        algorithms.fedavg(setup(updating(by_number), server=grown)),
        labelled(*columns, owner, CLIENTS), cohort=CLIENTS,
        sampling=registry.build("sampling", "uniform"),
        clock=clock.Clock(network=ladder), work=[Work(lambda n: n, (0.0,), (1,))],
        rounds_per_call=calls,
    )  # fmt: skip
    with pytest.raises(Diverged) as caught:
        rounds_of(simulator, 5)
    state, records = caught.value.state, caught.value.records
    assert (state.round, len(records)) == (2, 3)
    before = sum(r["virtual_seconds"] for r in records[:2])
    assert state.clock.now == pytest.approx(before)


def test_what_would_take_for_ever_or_lacks_something_is_refused():
    slow = clock.Clock(devices=lambda seed, n: np.full(n, 1e-300))
    with pytest.raises(InputError, match=r"client 0 would take .* seconds for a round"):
        rounds_of(simulator_of(slow, macs=1.0))
    with pytest.raises(InputError, match="what clients compute; give work"):
        Timer(slow, (), 0, SIZES, CLIENTS)
    few = clock.Activity(np.zeros((3, 1)), np.ones((3, 1)), np.ones(3), repeats=False)
    with pytest.raises(InputError, match="has 3 clients and the run 8"):
        simulator_of(clock.Clock(activity=few))


def test_more_than_there_are():
    with pytest.raises(InputError, match=r"invites 10 clients for a cohort of 7, .* 8"):
        simulator_of(clock.Clock(over=1.3), cohort=7)
    never = clock.Activity(np.zeros((8, 1)), np.ones((8, 1)), np.full(8, 9.0))
    off = never._replace(
        starts=np.arange(8.0)[:, None], ends=np.arange(8.0)[:, None] + 1
    )
    with pytest.raises(InputError, match="never so many are there at once"):
        rounds_of(simulator_of(clock.Clock(activity=off), cohort=2))


def test_ten_thousand_clients_a_round():
    """Planned and settled without a program: the first 10,000 of 13,000."""
    sizes = np.full(100_000, 10)
    when = clock.parse("network(sigma=0.5) | devices(sigma=0.6) | over_selection(1.3)")
    work = [Work(lambda n: n, (1e6,), (1000,))]
    timer = Timer(when, work, 3, sizes, 10_000)
    timer.messages = [Messages((4000,), (4000,), True)]
    ids = np.sort(np.random.default_rng(0).choice(100_000, timer.invited, False))
    plan = timer.plan(0, ids, np.zeros(len(ids), int), 0, Reading(), 0.0)
    assert len(ids) == 13_000
    assert plan.choice.kept.sum() == 10_000
    assert plan.choice.seconds == np.sort(plan.spans.total)[9_999]
    sent = np.full(len(ids), 4000)
    timed = timer.settle(plan, sent, sent, Reading())
    assert timed.figures["virtual_seconds"] == plan.choice.seconds


def test_the_time_of_prunefl():
    """51.08 s for the whole Conv-2 of FEMNIST, whatever is sent; less where layers are
    pruned: here the third to a tenth, of 6,422,528 parameters at 6.5266e-6 s."""
    from fedjax_compress.simulate.watch import _in_use

    layers = clock.parse("prunefl(conv2)").layers
    shapes = [(5, 5, 1, 32), (5, 5, 32, 64), (3136, 2048), (2048, 62)]
    params = {f"l{i}": {"kernel": np.zeros(s)} for i, s in enumerate(shapes)}
    kept = _in_use(layers, {}, params)
    assert kept.tolist() == [800, 51_200, 6_422_528, 126_976]
    assert layers.seconds(kept) == pytest.approx(51.08, abs=0.01)
    tenth = _in_use(layers, {"density/l2/kernel": np.float32(0.1)}, params)
    gone = (6_422_528 - tenth[2]) * (5.561621025626998e-6 + 5 * 1.93e-7)
    assert layers.seconds(tenth) == pytest.approx(51.08 - gone, abs=0.01)
    with pytest.raises(InputError, match="times for 4 weight tensors, the model has 1"):
        _in_use(layers, {}, {"a": np.zeros((3, 3)), "b": np.zeros(3)})
