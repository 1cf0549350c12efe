"""What the simulator does when the server's model is not finite any more.

Local updates here are made up, so that a round compiles in no time.
"""

from __future__ import annotations

import threading

import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup, updating

from fedjax_compress import algorithms, registry
from fedjax_compress.errors import Diverged, InputError
from fedjax_compress.simulate import Simulator

CLIENTS, ROWS = 4, 8


def simulator_of(update, observe=None, rows=ROWS, **options):
    """Clients add ``update(params, size)``; the server takes the mean as it is."""

    def train(params, shard, key):
        metrics = {"loss": jnp.ones(()), "examples": shard.size.astype(jnp.float32)}
        return update(params, shard.size), metrics

    algorithm = algorithms.fedavg(setup(updating(train), "mean(uniform)"))
    if observe is not None:
        algorithm = algorithm._replace(observe=observe)
    owner = np.arange(rows, dtype=np.int32) % CLIENTS
    columns = np.zeros((rows, 1), np.float32), np.zeros(rows, np.int32)
    options = {"cohort": 2, "lanes": 1, **options}
    sampling = registry.build("sampling", "uniform")
    data = labelled(*columns, owner, CLIENTS)
    return Simulator(algorithm, data, sampling=sampling, **options)


@pytest.mark.parametrize("rounds_per_call", [1, 4])
def test_the_run_ends_with_the_state_before(rounds_per_call):
    """1.5e38 a round: 1.5, then 3.0, and 4.5 times 10^38 is more than float32 holds."""
    simulator = simulator_of(
        lambda params, size: jnp.full_like(params, 1.5e38),
        rounds_per_call=rounds_per_call,
    )
    start = simulator.start(jnp.zeros(3))
    with pytest.raises(Diverged, match="not finite after round 3") as caught:
        simulator.advance(start, 9)
    found = caught.value
    assert found.round == 3
    assert [r["round"] for r in found.records] == [1, 2, 3]
    assert [r.get("diverged") for r in found.records] == [None, None, True]
    assert [r["dropped"] for r in found.records] == [0, 0, 0]
    assert found.state.round == 2
    np.testing.assert_allclose(found.state.server.params, 3e38, rtol=1e-6)
    with pytest.raises(Diverged, match="after round 3"):
        simulator.advance(found.state, 1)


def test_no_round_of_the_same_call_follows():
    """Clients take turns; the one with the most rows is too much, the next is not."""

    def update(params, size):
        return jnp.where(size > 2, jnp.full_like(params, 3e38), 1e37)

    simulator = simulator_of(update, rows=9, cohort=1, rounds_per_call=4)
    simulator.sampling = lambda seed, round, sizes, cohort: np.array([3 - round])
    start = simulator.start(jnp.full(3, 1e38))
    with pytest.raises(Diverged) as caught:
        simulator.advance(start, 4)
    assert caught.value.round == 4
    simulator.sampling = lambda seed, round, sizes, cohort: np.array([round])
    with pytest.raises(Diverged) as caught:
        simulator.advance(simulator.start(jnp.full(3, 1e38)), 4)
    assert caught.value.round == 1
    np.testing.assert_allclose(caught.value.state.server.params, 1e38, rtol=1e-6)


def test_a_report_that_is_not_finite_is_no_divergence():
    simulator = simulator_of(lambda params, size: params * jnp.inf)
    state, records = simulator.advance(simulator.start(jnp.ones(3)), 2)
    assert [r["dropped"] for r in records] == [2, 2]
    assert not any("diverged" in r for r in records)
    np.testing.assert_array_equal(state.server.params, np.ones(3))


def test_the_identity_of_a_run_changes_with_its_code():
    def identity_of(factor):
        simulator = simulator_of(lambda params, size: factor * params)
        before = simulator.identity()
        simulator.advance(simulator.start(jnp.ones(3)), 1)
        assert list(before) == ["sampling"]
        return simulator.identity()

    one, again, other = identity_of(0.5), identity_of(0.5), identity_of(0.25)
    assert one == again
    assert list(one) == list(other)
    assert [n for n in one if one[n] != other[n]] == list(one)[1:]


def test_the_first_cohort_is_drawn_once_for_it_and_before_the_supplier_draws():
    """A sampling with a generator of its own is never asked by two threads."""
    simulator = simulator_of(lambda params, size: params)
    drawn = []

    def sampling(seed, round, sizes, cohort):
        drawn.append(threading.current_thread() is threading.main_thread())
        return np.arange(cohort)

    simulator.sampling = sampling
    state = simulator.start(jnp.ones(3))
    for _ in range(2):
        state, _ = simulator.advance(state, 1)
        assert simulator.identity() == simulator.identity()
    assert drawn[0]
    assert not any(drawn[1:])


@pytest.mark.parametrize(
    ("observe", "words"),
    [
        (lambda server: {"round": server.params[0]}, "'round', which is a name of"),
        (lambda server: {"all": server.params}, r"one number, \[\], not float32\[3\]"),
        (lambda server: server.params[0], "must give a dict, not float32"),
    ],
)
def test_what_is_observed_must_fit_a_record(observe, words):
    simulator = simulator_of(lambda params, size: params, observe)
    with pytest.raises(InputError, match=words):
        simulator.advance(simulator.start(jnp.ones(3)), 1)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "must give parameters, and gives none"),
        ({"a": {"b": np.arange(3)}}, r"a/b is int64\[3\]"),
        ({"a": np.array([1.0, np.nan, np.inf], np.float32)}, "a has 2 elements that"),
    ],
)
def test_parameters_that_no_round_can_begin_with(params, words):
    simulator = simulator_of(lambda params, size: params)
    with pytest.raises(InputError, match=words):
        simulator.start(params)


def sampled(ids):
    return lambda seed, round, sizes, cohort: ids


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.array([0.0, 1.0]), r"whole numbers, int\[2\], not float64\[2\]"),
        (np.array([True, False]), "whole numbers"),
        (np.array([0, 1, 2]), r"2 client ids, \[2\], not int64\[3\]"),
        (np.array([[0, 1]]), r"not int64\[1, 2\]"),
        (np.array([0, 4]), "0 to 3, not 4"),
        (np.array([-1, 2]), "0 to 3, not -1"),
        (np.array([3, 3]), "distinct; 3 comes 2 times"),
    ],
)
def test_a_sampling_of_ones_own_is_checked_before_the_first_round(ids, words):
    simulator = simulator_of(lambda params, size: params)
    simulator.sampling = sampled(ids)
    state = simulator.start(jnp.ones(3))
    with pytest.raises(InputError, match=f"sampling, round 1: .*{words}"):
        simulator.advance(state, 1)
    assert simulator.traces == 0
