"""Numbers of clients' and server's steps that change over rounds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from systems import setup

from fedjax_compress import algorithms, clients, models, registry
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.local import schedule, train
from fedjax_compress.numerics import by_round
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Task

ROWS, CLIENTS = 24, 4
TASK = Task((3,), 2)
MODEL = models.logistic(TASK)


def moved(local="sgd(lr=0.5, batch=3)", server="fedavg", rounds=4, **options):
    """How far the parameters move in each round, and how often it was traced."""
    rng = np.random.default_rng(0)
    rows = {
        "features": rng.normal(size=(ROWS, 3)).astype(np.float32),
        "labels": rng.integers(0, 2, ROWS).astype(np.int32),
    }
    data = clients.group(rows, np.arange(ROWS) % CLIENTS)
    made = registry.build("local", local, MODEL) if isinstance(local, str) else local
    algorithm = algorithms.fedavg(setup(made, server=server))
    options = {"cohort": CLIENTS, "sampling": clients.uniform(), **options}
    simulator = Simulator(algorithm, data, **options)
    state = simulator.start(MODEL.init(jax.random.key(0)))
    where = [jax.device_get(algorithm.network(state.server)[1])]
    for _ in range(rounds):
        state, _ = simulator.advance(state, 1)
        where.append(jax.device_get(algorithm.network(state.server)[1]))
    steps = [jax.tree.map(np.subtract, b, a) for a, b in itertools.pairwise(where)]
    return steps, simulator.traces


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)  # noqa: E731
        jax.tree.map(close, one, other)


@pytest.mark.parametrize(
    ("changing", "first", "then"),
    [
        (
            "sgd(lr=steps((0.5, 0.1), after=2), batch=3)",
            "sgd(lr=0.5, batch=3)",
            "sgd(lr=0.1, batch=3)",
        ),
        pytest.param(
            "sgd(momentum=steps((0.0, 0.9), after=2), batch=3)",
            "sgd(batch=3)",
            "sgd(momentum=0.9, batch=3)",
            marks=pytest.mark.slow,
        ),
        (
            "optax(adam, lr=0.1, b1=steps((0.9, 0.1), after=2), batch=3)",
            "optax(adam, lr=0.1, batch=3)",
            "optax(adam, lr=0.1, b1=0.1, batch=3)",
        ),
    ],
)
def test_rounds_are_those_of_the_number_that_holds(changing, first, then):
    """Rounds 1 and 2 are those of the first number; a run of the second one that
    starts where those have ended goes on as the run in which it changes."""
    found, traces = moved(changing)
    assert traces == 1
    before, _ = moved(first)
    same(found[:2], before[:2])
    after = registry.build("local", then, MODEL)
    early = registry.build("local", first, MODEL)

    def run(problem, shard, context):
        one = early.run(problem, shard, context)
        other = after.run(problem, shard, context)
        pick = lambda a, b: jnp.where(context.round < 2, a, b)  # noqa: E731
        return jax.tree.map(pick, one, other)

    same(found, moved(early._replace(run=run))[0])


def test_the_server_follows_the_round():
    found, traces = moved(server="fedavg(lr=steps((1.0, 0.25), after=1))", rounds=2)
    whole, _ = moved(rounds=2)
    assert traces == 1
    same(found[:1], whole[:1])
    same([jax.tree.map(lambda x: 4 * x, found[1])], whole[1:])


def test_a_schedule_of_ones_own_is_told_the_round():
    def steps(context):
        return optax.sgd(jnp.where(context.round < 1, 0.5, 0.0))

    found, _ = moved(train(MODEL, steps, schedule(batch=3)), rounds=2)
    assert any(np.any(x) for x in jax.tree.leaves(found[0]))
    assert not any(np.any(x) for x in jax.tree.leaves(found[1]))


def test_whole_numbers_are_phases_of_a_run():
    text = "sgd(epochs=steps((1, 3), after=5), lr=steps((0.5, 0.1), after=2))"
    found = by_round.phases("local", text, MODEL)
    assert [phase.after for phase in found] == [0, 5]
    rows = jnp.asarray(7)
    assert [float(phase.part.seen(rows)) for phase in found] == [7, 21]
    with pytest.raises(SpecError, match="a program of its own for each"):
        registry.build("local", text, MODEL)


def test_a_factory_that_has_to_know_its_number_makes_phases(monkeypatch):
    # For this test only: others go through all that is registered.
    monkeypatch.setitem(registry._entries._tables, "server", registry.entries("server"))

    @registry.register("server", "test_of_knowing")
    def knowing(lr: float = 1.0):
        return registry.build("server", f"fedavg(lr={lr})" if lr > 0.5 else "fedavgm")

    text = "test_of_knowing(lr=steps((1.0, 0.25), after=3))"
    assert [phase.after for phase in by_round.phases("server", text)] == [0, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sgd(lr=steps((0.1, -1.0), after=2))", "lr must be positive"),
        ("sgd(lr=stps((0.1, 1.0), after=2))", "did you mean 'steps'"),
        ("sgd(lr=steps((0.1, 1.0)))", "steps needs after"),
    ],
)
def test_each_value_is_checked(text, words):
    with pytest.raises(SpecError, match=words):
        registry.build("local", text, MODEL)


def test_a_function_that_makes_no_optimizer_is_refused():
    local = train(MODEL, lambda context: 0.1, schedule(batch=3))
    with pytest.raises(InputError, match="must give a GradientTransformation"):
        moved(local, rounds=1)


def test_noise_of_an_optimizer_is_each_clients_and_rounds_own():
    """With a loss without a gradient only noise moves 1,000 parameters. The mean over
    25 clients has a fifth of one client's standard deviation; the correlation of two
    rounds is below 0.2, which independent noise of 1,000 numbers exceeds with a
    probability below 1e-9."""
    clients_, flat = 25, Task((2,), 2)
    still = models.losses.losses_for(flat)
    model = models.logistic(flat)._replace(
        init=lambda key: {"w": jnp.zeros(1000)},
        apply=lambda p, columns, key: 0.0 * p["w"][:2] + 0.0 * columns["features"],
        losses=still,
    )
    rows = {"features": np.zeros((50, 2), np.float32), "labels": np.zeros(50, np.int32)}

    def noise(cohort):
        data = clients.group(rows, np.arange(50) % clients_)
        local = registry.build("local", "optax(noisy_sgd, lr=0.1, batch=1)", model)
        algorithm = algorithms.fedavg(setup(local))
        simulator = Simulator(
            algorithm, data, cohort=cohort, sampling=clients.uniform()
        )
        state, found = simulator.start(model.init(jax.random.key(0))), [np.zeros(1000)]
        for _ in range(2):
            state, _ = simulator.advance(state, 1)
            found.append(np.asarray(algorithm.network(state.server)[1]["w"]))
        return np.diff(found, axis=0)

    alone, many = noise(1), noise(clients_)
    ratio = many[0].std() / alone[0].std()
    assert 0.15 < ratio < 0.25
    assert abs(np.corrcoef(*many)[0, 1]) < 0.2
    assert abs(np.corrcoef(*alone)[0, 1]) < 0.2
