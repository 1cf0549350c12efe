"""Clients that nobody waits for: order, staleness, and the versions that they train."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup, updating

from fedjax_compress import algorithms, clock, registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.deliveries import Deliveries
from fedjax_compress.simulate.foresee import Messages
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.plan import Planner
from fedjax_compress.simulate.readings import Reading
from fedjax_compress.simulate.timing import Timer
from fedjax_compress.simulate.work import Work

PARAMETERS = 64
UNIFORM = registry.build("sampling", "uniform")


def halves(params, shard, key):
    """Half the way to the number of the client's rows: what it started from matters."""
    size = shard.size.astype(jnp.float32)
    told = {"loss": size, "examples": jnp.ones(()), "steps": size, "processed": size}
    return 0.5 * (size - params), told


def takes(*seconds):
    """Client c computes for seconds[c]: as many operations a second, of one each."""

    def draw(seed, clients):
        return 1 / np.resize(np.asarray(seconds, float), clients)

    return clock.Clock(devices=draw)


def simulator_of(when, clients, cohort, uplink="identity", name="fedbuff", **options):
    made = options.pop("made", {})
    made = made if name == "fedavg" else {"max_staleness": 5} | made
    algorithm = getattr(algorithms, name)(
        setup(updating(halves), uplink=uplink), **made
    )
    sizes = np.arange(1, clients + 1)
    owner = np.repeat(np.arange(clients), sizes).astype(np.int32)
    columns = np.zeros((len(owner), 1), np.float32), np.zeros(len(owner), np.int32)
    work = [Work(lambda n: np.ones(len(n)), (1 / 6,), (PARAMETERS,))]
    return Simulator(
        algorithm, labelled(*columns, owner, clients), cohort=cohort,
        sampling=UNIFORM, clock=when, work=work, **options,
    )  # fmt: skip


def played(simulator, rounds):
    """The state after some rounds, their records, and who delivered in each."""
    state, records, who = simulator.start(jnp.zeros(PARAMETERS)), [], []
    for _ in range(rounds):
        state, fresh = simulator.advance(state, 1)
        records += fresh
        plan = simulator.timed.plan
        who.append(list(zip(plan.ids.tolist(), plan.staleness.tolist(), strict=True)))
    return state, records, who


@pytest.mark.parametrize("name", ["fedbuff", "fedasync"])
def test_one_at_a_time_is_sequential_training(name):
    """M = K = 1: each client starts from what the one before has left."""
    when = takes(1.0, 2.0, 3.0)
    options = {"name": name, "made": {"concurrency": 1}}
    state, records, who = played(simulator_of(when, 3, 1, **options), 6)
    w, now = 0.0, 0.0
    for record, ((client, age),) in zip(records, who, strict=True):
        assert age == 0
        w += 0.5 * (client + 1 - w)
        now += client + 1
        assert record["virtual_seconds"] == pytest.approx(client + 1)
    assert len({client for ((client, _),) in who}) > 1
    np.testing.assert_allclose(state.server.params, w, rtol=1e-6)
    assert state.clock.now == pytest.approx(now)


def test_equal_times_are_rounds():
    """M = K = all clients, each a second: federated averaging, bit for bit."""
    made = {"concurrency": 4}
    state, records, who = played(simulator_of(takes(1.0), 4, 4, made=made), 3)
    plain = simulator_of(None, 4, 4, name="fedavg")
    other, expected = plain.advance(plain.start(jnp.zeros(PARAMETERS)), 3)
    assert tree.sha256(state.server.params) == tree.sha256(other.server.params)
    assert [r["virtual_seconds"] for r in records] == [1.0] * 3
    assert {age for each in who for _, age in each} == {0}
    for name in ("bytes_up", "bytes_down", "train_loss"):
        assert [r[name] for r in records] == [r[name] for r in expected]


@pytest.mark.parametrize("name", ["fedbuff", "fedasync"])
@pytest.mark.parametrize("options", [{"lanes": 2}, {"devices": 2, "lanes": 1}])
@pytest.mark.parametrize("oldest", [2, 5])
def test_an_old_start_by_hand(name, options, oldest):
    """Three clients at work, two deliveries a step. Durations 2, 3 and 7 (clients 0 to
    2 of 1 to 3 rows): step 1 at 3 by clients 0 and 1 (0 waits from 2 on, since it has
    delivered and nobody else is left); both start anew at 3. Step 2 at 6 by 0 (at 5)
    and 1; step 3 at 8 by 2, which began at 0 and is 2 steps old (at 7), and 0 at 8. No
    more messages are kept than the oldest needs."""
    made = {"concurrency": 3, "max_staleness": oldest}
    simulator = simulator_of(takes(2, 3, 7), 3, 2, name=name, made=made, **options)
    state, records, who = played(simulator, 3)
    assert who == [[(0, 0), (1, 0)], [(0, 0), (1, 0)], [(0, 0), (2, 2)]]
    assert np.cumsum([r["virtual_seconds"] for r in records]).tolist() == [3, 6, 8]
    assert [r["staleness"] for r in records] == [0, 0, 1]
    w, starts = 0.0, []
    for each in who:
        starts.append(w)
        change = 0.0
        for client, age in each:
            start = starts[len(starts) - 1 - age]
            delta = 0.5 * (client + 1 - start)
            if name == "fedasync":
                delta = start + delta - w
            change += (1 + age) ** -0.5 * delta / 2
        w += change
    np.testing.assert_allclose(state.server.params, w, rtol=1e-6)


def test_what_is_too_old_is_thrown_away():
    """As above, with nothing older than a step: client 2 does not count at 7; step 3
    is by 0 at 8 and 1 at 9, and 2 has begun anew."""
    made = {"concurrency": 3, "max_staleness": 1}
    simulator = simulator_of(takes(2, 3, 7), 3, 2, made=made)
    _, records, who = played(simulator, 3)
    assert who[2] == [(0, 0), (1, 0)]
    assert [r["stale"] for r in records] == [0, 0, 1]
    message = 16 + 4 * PARAMETERS
    assert [r["bytes_up"] for r in records] == [2 * message, 2 * message, 3 * message]
    assert [r["bytes_down"] for r in records] == [r["bytes_up"] for r in records]
    nominal = 4 * PARAMETERS
    assert [r["nominal_bytes_up"] for r in records] == [2 * nominal] * 2 + [3 * nominal]
    assert 2 in {job.client for job in simulator.timed.reading.jobs}


@pytest.mark.parametrize(
    "uplink", ["hadamard | uniform(bits=8)", "error_feedback(top_k(0.2))"]
)
def test_links_and_their_states(uplink):
    """Both ends draw the same rotation, that of the round in which a client began; a
    residual stays with its client. A resumed run goes on bit for bit between steps,
    with clients at work."""
    when = takes(*np.linspace(1, 4, 9))._replace(dropout=0.2)
    made = {"concurrency": 5, "max_staleness": 9}
    simulator = simulator_of(when, 9, 3, uplink=uplink, made=made)
    whole, records, who = played(simulator, 8)
    assert max(age for each in who for _, age in each) > 1
    assert sum(r["lost"] for r in records) > 0
    plain, _, same = played(simulator_of(when, 9, 3, made=made), 8)
    assert same == who
    error = float(jnp.abs(plain.server.params - whole.server.params).max())
    assert 0 < error < (0.05 if "hadamard" in uplink else 9)
    kept = jax.tree.leaves(simulator.client_states(whole, np.arange(9)))
    assert [float(jnp.abs(x).max()) > 0 for x in kept] == [True] * ("top_k" in uplink)
    half, first, _ = played(simulator, 4)
    saved = simulator.snapshot(half)
    other = simulator_of(when, 9, 3, uplink=uplink, made=made)
    other.start(jnp.zeros(PARAMETERS))
    end, last = other.advance(other.place(saved, 4), 4)
    assert tree.sha256(end.server.params) == tree.sha256(whole.server.params)
    assert end.clock == whole.clock
    seconds = [r["virtual_seconds"] for r in records]
    assert [r["virtual_seconds"] for r in first + last] == seconds


@pytest.mark.parametrize(
    ("at_work", "wanted", "weight"),
    [(10, 1, 0.4116), (10, 10, 0.7797), (50, 10, 0.4924), (100, 10, 0.3815)],
)
def test_the_mean_staleness(at_work, wanted, weight):
    """(M - 1) / K in steady state: each of the other M - 1 delivers once while one is
    at work, on average.

    Half-normal durations of 3,000 clients, 6,000 deliveries after the first 1,000.
    Deliveries are correlated over about M of them; the mean of tau has a standard error
    of about sd sqrt(M / K / 6,000 * 2), at most 1.3 % of the mean for these sizes; at
    5 % the false-alarm rate is below 1e-3. That clients at work are not drawn again
    shifts it by less than 2 %: so 7 %. The mean of (1 + tau)^-1/2 moves by less.
    """
    rng = np.random.default_rng(1)
    seconds = np.abs(rng.normal(size=3000)) + 1e-6
    timer = Timer(takes(*seconds), [Work(lambda n: np.ones(len(n)), (1 / 6,), (1,))],
                  0, np.ones(3000, int), wanted)  # fmt: skip
    timer.messages = [Messages((0,), (0,), True)]
    algorithm = algorithms.fedbuff(
        setup(updating(halves)), concurrency=at_work, max_staleness=10_000
    )
    plans = Deliveries(timer, Phases(algorithm), UNIFORM)
    planner = Planner(UNIFORM, 0, timer.sizes, wanted, 1, 1)
    reading, ages, spans = Reading(), [], []
    for number in range(7000 // wanted):
        _, plan, reading = plans.plan(planner, number, reading)
        ages.append(plan.staleness)
        spans.append(plan.choice.seconds)
    skip = 1000 // wanted
    found = np.concatenate(ages[skip:])
    assert found.mean() == pytest.approx((at_work - 1) / wanted, rel=0.07)
    assert np.mean((1 + found) ** -0.5) == pytest.approx(weight, rel=0.07)
    rate = wanted * len(spans[skip:]) / sum(spans[skip:])
    assert rate == pytest.approx(at_work / seconds.mean(), rel=0.07)


def test_rules_that_only_rounds_have():
    for rule in ("over_selection(1.2)", "deadline(5)", "prunefl"):
        with pytest.raises(InputError, match="waits for nobody; leave them out"):
            simulator_of(clock.parse(rule), 12, 2)
    with pytest.raises(InputError, match="state=reached is of rounds"):
        simulator_of(clock.parse("dropout(0.1, state=reached)"), 12, 2)
    with pytest.raises(InputError, match="concurrency is 5, and there are only 4"):
        simulator_of(takes(1.0), 4, 2, made={"concurrency": 5})


def slow(seed, clients):
    """Links on which it matters how long a message is."""
    rates = 1000.0 * np.linspace(1, 3, clients)
    return np.column_stack([rates, rates, np.zeros(clients)])


def test_sizes_that_depend_on_values():
    """Steps are foreseen by the mean of the step before, whatever the rounds of a call
    and wherever a run is resumed; what is recorded is of the true bytes."""
    when = clock.Clock(network=slow)
    made = {"concurrency": 5, "max_staleness": 9}
    options = {"uplink": "error_feedback(top_k(0.2))", "made": made}
    simulator = simulator_of(when, 9, 3, rounds_per_call=4, **options)
    state = simulator.start(jnp.zeros(PARAMETERS))
    whole, records = simulator.advance(state, 8)
    timed = simulator.timed
    one, each, _ = played(simulator_of(when, 9, 3, **options), 8)
    assert tree.sha256(one.server.params) == tree.sha256(whole.server.params)
    assert one.clock == whole.clock
    times = {"seconds", "clients_per_second"}
    for a, b in zip(records, each, strict=True):
        assert {k: v for k, v in a.items() if k not in times}.items() <= b.items()
    half, _ = simulator.advance(simulator.start(jnp.zeros(PARAMETERS)), 3)
    saved = simulator.snapshot(half)
    other = simulator_of(when, 9, 3, rounds_per_call=4, **options)
    other.start(jnp.zeros(PARAMETERS))
    placed = other.place(saved, 3)
    assert placed.clock == half.clock
    assert placed.clock.up > 0
    end, _ = other.advance(placed, 5)
    assert tree.sha256(end.server.params) == tree.sha256(whole.server.params)
    assert end.clock == whole.clock
    rates = slow(0, 9)[timed.plan.ids, 1]
    up = timed.spans.upload * rates / 8
    assert up.sum() == pytest.approx(records[-1]["bytes_up"])


def test_nobody_is_left_to_begin():
    """Three of three at work, two a step: a place stays empty until the step, also
    where sizes depend on values."""
    made = {"concurrency": 3}
    simulator = simulator_of(
        clock.Clock(network=slow), 3, 2, uplink="top_k(0.2)", made=made
    )
    _, records, who = played(simulator, 4)
    assert all(len(dict(each)) == 2 for each in who)
    assert all(r["virtual_seconds"] > 0 for r in records)


def test_energy_of_all_who_were_asked():
    """A watt of computing; durations 2, 3 and 7, what is older than a step is thrown
    away, as above: in step 3 clients 0 and 1 draw 2 and 3 J and the stale one 7. Of two
    clients of which every second job is lost, all jobs count."""
    watt = clock.Power(0.0, 0.0, 0.0, 1.0, 5.0, 0.0)
    when = takes(2, 3, 7)._replace(power=watt)
    made = {"concurrency": 3, "max_staleness": 1}
    _, records, _ = played(simulator_of(when, 3, 2, made=made), 3)
    assert [r["energy_joules"] for r in records] == [5.0, 5.0, 12.0]
    when = takes(3.0)._replace(power=watt, dropout=0.5)
    _, records, _ = played(simulator_of(when, 4, 2, made={"concurrency": 2}), 6)
    assert sum(r["lost"] for r in records) > 2
    for r in records:
        assert r["energy_joules"] == pytest.approx(3.0 * (2 + r["lost"]))


def test_nobody_who_could_ever_report(monkeypatch):
    """There for a second of each ten, with work for two; 300 tries are enough here."""
    monkeypatch.setattr("fedjax_compress.simulate.deliveries._HOPELESS", 300)
    always = np.zeros((4, 1)), np.ones((4, 1)), np.full(4, 10.0)
    when = takes(2.0)._replace(activity=clock.Activity(*always))
    simulator = simulator_of(when, 4, 2, made={"concurrency": 2})
    state = simulator.start(jnp.zeros(PARAMETERS))
    with pytest.raises(InputError, match="none of 300 clients in a row has reported"):
        simulator.advance(state, 1)


def test_how_many_are_at_work_where_nobody_says():
    """Ten times the cohort, or all but a cohort, and a cohort at least."""
    for clients, cohort, wanted in [(40, 2, 20), (12, 2, 10), (12, 10, 10)]:
        simulator = simulator_of(takes(1.0), clients, cohort)
        assert simulator.watch.number == wanted
