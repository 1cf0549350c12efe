"""Algorithms that take over: the same numbers as one, a program each."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from systems import labelled, setup

from fedjax_compress import algorithms, registry
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.programs import Programs
from fedjax_compress.typing import Task

WIDTH, CLASSES, CLIENTS = 4, 3, 7
MODEL = registry.build("model", "logistic", Task((WIDTH,), CLASSES))
LOCAL = registry.build("local", "sgd(batch=3)", MODEL)
PARAMS = MODEL.init(jax.random.key(0))


def data():
    rng = np.random.default_rng(0)
    owner = np.arange(6 * CLIENTS) % CLIENTS
    features = rng.normal(size=(len(owner), WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, len(owner)).astype(np.int32)
    return labelled(features, labels, owner, CLIENTS)


def algorithm(uplink):
    return algorithms.fedavg(setup(LOCAL, uplink=uplink))


def simulator(first, later=(), **options):
    return Simulator(
        first,
        data(),
        cohort=5,
        sampling=registry.build("sampling", "uniform"),
        lanes=2,
        later=later,
        **options,
    )


def run(first, later=(), rounds=6, **options):
    found = simulator(first, later, **options)
    state, records = found.advance(found.start(PARAMS), rounds)
    for record in records:
        del record["seconds"], record["clients_per_second"]
    return jax.device_get(found.snapshot(state)), records, found


@pytest.mark.parametrize(
    "options", [{"rounds_per_call": 4}, {"resident_limit": 0}], ids=["calls", "host"]
)
def test_an_algorithm_that_follows_itself_changes_nothing(options):
    """With calls that a boundary cuts, and with rows and states on the host."""
    same = algorithm("error_feedback(top_k(0.3))")
    plain, records, whole = run(same, **options)
    cut, others, phased = run(same, [(2, same), (5, same)], **options)
    jax.tree.map(np.testing.assert_array_equal, plain, cut)
    assert records == others
    assert (whole.traces, phased.traces) == (1, 3)


def test_each_phase_compiles_once_and_sends_its_own_bytes():
    texts = ["qsgd(bits=8)", "qsgd(bits=4)", "qsgd(bits=2)"]
    first, *rest = map(algorithm, texts)
    found = simulator(first, list(zip((3, 5), rest, strict=True)))
    state, records = found.advance(found.start(PARAMS), 7)
    assert found.traces == 3
    with jax.no_tracing():
        state, more = found.advance(state, 4)
        found.advance(found.start(PARAMS)._replace(round=2), 2)
    assert found.traces == 3
    sent = [r["bytes_up"] for r in records + more]
    alone = [run(algorithm(text), rounds=1)[1][0]["bytes_up"] for text in texts]
    assert sent == [alone[0]] * 3 + [alone[1]] * 2 + [alone[2]] * 6
    assert len(set(alone)) == 3


def test_a_run_that_begins_in_a_later_phase():
    pair = algorithm("error_feedback(top_k(0.5))"), algorithm("error_feedback(qsgd)")
    whole, records, _ = run(pair[0], [(3, pair[1])])
    found = simulator(pair[0], [(3, pair[1])])
    state, _ = found.advance(found.start(PARAMS), 4)
    saved = jax.device_get(found.snapshot(state))
    again = simulator(pair[0], [(3, pair[1])])
    again.start(PARAMS)
    state, rest = again.advance(again.place(saved, 4), 2)
    jax.tree.map(np.testing.assert_array_equal, whole, again.snapshot(state))
    assert again.traces == 1
    assert [r["train_loss"] for r in rest] == [r["train_loss"] for r in records[4:]]


def test_states_that_change_are_refused_before_anything_compiles(monkeypatch):
    monkeypatch.setattr(Programs, "get", None)
    other = algorithms.fedavg(setup(LOCAL, server="fedavgm(momentum=0.9)"))
    with pytest.raises(InputError, match=r"what the server keeps .* after round 4"):
        simulator(algorithm("identity"), [(4, other)]).start(PARAMS)
    plain, feedback = algorithm("cast"), algorithm("error_feedback(cast)")
    with pytest.raises(InputError, match=r"what the clients keep .*0 arrays become 2"):
        simulator(plain, [(4, feedback)]).start(PARAMS)


@pytest.mark.parametrize("after", [(0,), (3, 3), (4, 2)])
def test_phases_rise(after):
    one = algorithm("identity")
    with pytest.raises(InputError, match="phases must begin after 1, 2"):
        Phases(one, [(n, one) for n in after])


def test_rounds_of_a_phase():
    one = algorithm("identity")
    phases = Phases(one, [(3, one), (5, one)])
    assert [phases.at(n) for n in range(7)] == [0, 0, 0, 1, 1, 2, 2]
    assert [phases.within(n, 10) for n in range(7)] == [3, 2, 1, 2, 1, 10, 10]
    assert phases.within(0, 2) == 2
