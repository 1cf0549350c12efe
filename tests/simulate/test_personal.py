"""What each client would use itself, scored on its own rows."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup, updating

from fedjax_compress import algorithms, clients, experiment, prune, registry
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config
from fedjax_compress.experiment.build import build
from fedjax_compress.simulate import ClientEvaluator, PersonalEvaluator, Simulator
from fedjax_compress.typing import Task

SIZES = (3, 0, 70, 1, 8)
UNIFORM = registry.build("sampling", "uniform")


@pytest.fixture(scope="module")
def model():
    return registry.build("model", "logistic", Task((4,), 3))


@pytest.fixture(scope="module")
def rows():
    """Rows of five clients, one of whom has none, one more than are scored at once."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(len(SIZES)), SIZES)
    columns = {
        "features": rng.normal(size=(len(owner), 4)).astype(np.float32),
        "labels": rng.integers(0, 3, len(owner)).astype(np.int32),
    }
    return clients.group(columns, owner, len(SIZES))


@pytest.mark.parametrize("together", [1, 3, 16])
def test_who_has_nothing_of_his_own_scores_as_the_servers_model(model, rows, together):
    params = model.init(jax.random.key(3))
    nothing = PersonalEvaluator(model, rows, lambda w, state: w, together)
    found = nothing.figures(params, lambda ids: ())
    of_all = ClientEvaluator(model, rows)
    np.testing.assert_allclose(found, of_all.figures(params), rtol=1e-6)
    scores = nothing(params, lambda ids: ())
    assert list(scores) == ["personal_accuracy_mean", "personal_accuracy_p10"]
    theirs = of_all(params).values()
    np.testing.assert_allclose(list(scores.values()), list(theirs), rtol=1e-6)


def test_each_client_is_scored_by_its_own_parameters(model, rows):
    """Client i has 1 as bias of class i mod 3 and 0 else, so it always answers that."""
    params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(3)))

    def personal(w, state):
        return jax.tree.map(lambda x: x + (state if x.ndim == 1 else 0), w)

    biases = np.eye(3, dtype=np.float32)[np.arange(len(SIZES)) % 3]
    evaluate = PersonalEvaluator(model, rows, personal, together=2)
    found = evaluate.figures(params, lambda ids: biases[ids])
    labels = np.split(np.asarray(rows.columns["labels"]), np.cumsum(SIZES)[:-1])
    expected = [np.mean(y == i % 3) for i, y in enumerate(labels) if len(y)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(set(map(float, expected))) > 1


@pytest.mark.parametrize("options", [{}, {"resident_limit": 0}, {"devices": 2}])
def test_states_are_those_of_these_clients_wherever_they_live(options):
    """A client's state is how often it has taken part, as the sampling says."""

    def count(view, alone, state, shard, context):
        report = plain.client(view, alone, state[0], shard, context)
        return report._replace(state=(report.state, state[1] + 1))

    plain = algorithms.fedavg(setup(updating(lambda p, shard, key: (
        jnp.ones(3), {"loss": jnp.ones(()), "examples": jnp.ones(())}
    ))))  # fmt: skip
    counting = plain._replace(
        client=count,
        client_init=lambda params: (plain.client_init(params), jnp.zeros((), int)),
    )
    data = labelled(np.zeros((14, 1)), np.zeros(14, int), np.repeat(np.arange(7), 2))
    simulator = Simulator(
        counting, data, cohort=4, seed=1, sampling=UNIFORM, lanes=1, **options
    )
    state = simulator.start(jnp.zeros(3))
    state, _ = simulator.advance(state, 5)
    drawn = [UNIFORM(1, i, np.asarray(data.sizes), 4) for i in range(5)]
    expected = np.bincount(np.concatenate(drawn), minlength=7)
    ids = np.asarray([6, 0, 3, 3], np.int32)
    found = simulator.client_states(state, ids)[1]
    np.testing.assert_array_equal(found, expected[ids])
    assert len(set(expected.tolist())) > 1


LOTTERY = Config(
    clients=6,
    cohort=3,
    rounds=3,
    model="logistic",
    algorithm="lotteryfl(prune_rate=0.5, threshold=0.0)",
    local="sgd(lr=0.1, steps=2, batch=5)",
    uplink="identity",
    downlink="identity",
    evaluate_clients=True,
    checkpoint_every=3,
)


def test_lottery_tickets_are_scored_and_recorded(tmp_path):
    """The record has what masks and parameters of the last checkpoint give."""
    summary = experiment.run(LOTTERY, tmp_path / "run", quiet=True)
    assert 0 < summary["personal_accuracy_mean"] <= 1
    assert summary["personal_accuracy_mean"] != summary["client_accuracy_mean"]
    parts = build(LOTTERY)
    state = parts.simulator.start(parts.params)
    state, _ = parts.simulator.advance(state, LOTTERY.rounds)
    params = state.server.params
    figures = []
    for client in parts.personal._has:
        _, mask = parts.simulator.client_states(state, np.asarray([client]))
        one = jax.tree.map(lambda m: m[0], mask)
        shard = jax.tree.map(np.asarray, parts.personal._data)
        rows = slice(shard.offsets[client], shard.offsets[client + 1])
        own = {n: x[rows] for n, x in shard.columns.items()}
        outputs = parts.model.apply(prune.apply(one, params), own, None)
        figures.append(np.mean(np.argmax(outputs, -1) == own["labels"]))
    np.testing.assert_allclose(
        summary["personal_accuracy_mean"], np.mean(figures), rtol=1e-5
    )


def test_nobody_has_a_row(model, rows):
    empty = dataclasses.replace(rows, offsets=np.zeros_like(rows.offsets))
    with pytest.raises(InputError, match="no client has a row"):
        PersonalEvaluator(model, empty, lambda w, state: w)


def test_rows_that_count_for_nothing_are_no_score(model, rows):
    """A client all of whose rows weigh nothing is left out of mean and percentile."""
    weights = np.ones(sum(SIZES), np.float32)
    weights[-SIZES[-1] :] = 0  # the last client's
    columns = {**rows.columns, "weights": weights}
    weighed = dataclasses.replace(rows, columns=columns)
    params = model.init(jax.random.key(3))
    of_all = ClientEvaluator(model, rows).figures(params)
    found = ClientEvaluator(model, weighed).figures(params)
    np.testing.assert_allclose(found, of_all[:-1], rtol=1e-6)
    own = PersonalEvaluator(model, weighed, lambda w, state: w, together=3)
    np.testing.assert_allclose(own.figures(params, lambda ids: ()), found, rtol=1e-6)
    columns["weights"] = np.zeros_like(weights)
    nothing = dataclasses.replace(rows, columns=columns)
    assert np.isnan(list(ClientEvaluator(model, nothing)(params).values())).all()
