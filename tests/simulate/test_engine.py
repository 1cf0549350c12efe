"""The engine: identities, broken clients, and what the compiled round holds.

That lanes, order, devices and the place of the state do not matter is tested for every
algorithm in ``contract/test_algorithms.py``.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup

from fedjax_compress import algorithms, registry, tree, wire
from fedjax_compress.clients import group
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.plan import DUMMY, choose_lanes, chunks_of, plan
from fedjax_compress.typing import Task

CLIENTS, WIDTH, CLASSES = 13, 5, 3
ROTATED = "on_vector(hadamard | uniform(bits=4))"
STATEFUL = "error_feedback(on_vector(top_k(0.2)))"
IN_ORDER = "sgd(batch=4, shuffle=false)"


def data_of(clients=CLIENTS, poison=None):
    rng = np.random.default_rng(2)
    sizes = 1 + rng.integers(0, 12, clients)
    assignment = np.repeat(np.arange(clients), sizes).astype(np.int32)
    features = rng.normal(size=(len(assignment), WIDTH)).astype(np.float32)
    if poison is not None:
        features[assignment == poison] = np.inf
    labels = rng.integers(0, CLASSES, len(assignment)).astype(np.int32)
    return labelled(features, labels, assignment, clients)


MODEL = registry.build("model", "mlp(hidden=(7,))", Task((WIDTH,), CLASSES))
PARAMS = MODEL.init(jax.random.key(0))


def algorithm_of(uplink="identity", downlink="identity", local=IN_ORDER):
    local, server = (
        registry.build("local", local, MODEL),
        "fedavgm(lr=1.0, momentum=0.5)",
    )
    return algorithms.fedavg(setup(local, "mean", server, uplink, downlink))


def simulator_of(algorithm, data=None, **options):
    options = {"cohort": 9, "lanes": 4, "seed": 3, **options}
    sampling = options.pop("sampling", registry.build("sampling", "uniform"))
    return Simulator(algorithm, data or data_of(), sampling=sampling, **options)


def run(algorithm, rounds=3, data=None, **options):
    simulator = simulator_of(algorithm, data, **options)
    state, records = simulator.advance(simulator.start(PARAMS), rounds)
    clean = [{k: v for k, v in r.items() if "second" not in k} for r in records]
    return jax.device_get(state.server), jax.device_get(state.store), clean


def close(a, b, rtol=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, 1e-6), a, b)


def test_one_client_with_one_batch_is_gradient_descent():
    data = data_of(clients=1)
    local = registry.build("local", "sgd(lr=0.2, batch=64)", MODEL)
    simulator = simulator_of(algorithms.fedavg(setup(local)), data, cohort=1)
    state, _ = simulator.advance(simulator.start(PARAMS), 4)

    def loss(params):
        columns = jax.tree.map(jnp.asarray, data.columns)
        return jnp.mean(MODEL.losses(MODEL.apply(params, columns, None), columns)[0])

    expected = PARAMS
    for _ in range(4):
        grads = jax.grad(loss)(expected)
        expected = jax.tree.map(lambda p, g: p - 0.2 * g, expected, grads)
    close(state.server.params, expected)


@pytest.mark.parametrize("neutral", ["top_k(1.0)", "random_k(1.0)"])
def test_keeping_everything_is_the_identity(neutral):
    plain = run(algorithm_of("identity"))[0]
    close(plain, run(algorithm_of(neutral))[0], rtol=1e-6)


def test_a_client_that_is_not_finite_is_left_out_and_counted():
    poisoned = 4
    algorithm = algorithm_of(STATEFUL)
    options = {"cohort": CLIENTS, "rounds": 3}
    server, store, records = run(algorithm, data=data_of(poison=poisoned), **options)
    assert tree.all_finite(server)
    assert tree.all_finite(store)
    assert [r["dropped"] for r in records] == [1, 1, 1]
    assert all(np.isfinite(r["train_loss"]) for r in records)

    healthy = data_of()
    keep = np.flatnonzero(np.repeat(np.arange(CLIENTS), healthy.sizes) != poisoned)
    ids = np.repeat(np.arange(CLIENTS), healthy.sizes)[keep].astype(np.int32)
    without = group({n: x[keep] for n, x in healthy.columns.items()}, ids, CLIENTS)
    expected, _, _ = run(algorithm, data=without, **options)
    close(server, expected)


@pytest.mark.parametrize(
    ("uplink", "options"),
    [
        (STATEFUL, {"devices": 2}),
        (ROTATED, {"devices": 4, "rounds_per_call": 2}),
    ],
)
def test_the_only_collective_is_the_final_reduction(uplink, options):
    simulator = simulator_of(algorithm_of(uplink), lanes=2, **options)
    simulator.advance(simulator.start(PARAMS), 2)
    text = simulator.programs.compiled[0].as_text()
    names = r"(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+)"
    found = re.findall(rf" {names}(?:-start)?\(", text)
    assert found == ["all-reduce"]


def test_no_host_transfer_inside_a_round():
    simulator = simulator_of(algorithm_of(STATEFUL), rounds_per_call=4)
    simulator.advance(simulator.start(PARAMS), 4)
    text = simulator.programs.compiled[0].as_text()
    for word in ("infeed", "outfeed", " send(", " recv(", "callback", "host_compute"):
        assert word not in text


def test_thirty_rounds_compile_once():
    simulator = simulator_of(algorithm_of(ROTATED), cohort=5)
    state, _ = simulator.advance(simulator.start(PARAMS), 1)
    before = simulator.traces
    with jax.no_tracing():
        state, rest = simulator.advance(state, 29)
    assert simulator.traces == before == 1
    assert len(rest) == 29
    drawn = [simulator.sampling(3, r, simulator.sizes, 5) for r in range(30)]
    sizes = [sorted(simulator.sizes[ids]) for ids in drawn]
    assert len({tuple(s) for s in sizes}) > 20


@pytest.mark.parametrize("rounds", [1, 4])
def test_a_client_is_traced_once(rounds):
    """Not for the shapes of its report and again for its values."""
    algorithm, traced = algorithm_of(STATEFUL), []

    def client(*args):
        traced.append(args)
        return algorithm.client(*args)

    noted = algorithm._replace(client=client)
    simulator = simulator_of(noted, rounds_per_call=rounds)
    state = simulator.start(PARAMS)
    traced.clear()
    simulator.advance(state, 4)
    assert len(traced) == 1


def test_memory_of_a_round_does_not_grow_with_the_cohort():
    def scratch(cohort):
        simulator = simulator_of(algorithm_of(ROTATED), data_of(200), cohort=cohort)
        simulator.advance(simulator.start(PARAMS), 1)
        return simulator.programs.compiled[0].memory_analysis().temp_size_in_bytes

    small, large = scratch(8), scratch(160)
    assert large - small < 160 * 4 * 16  # ids, slots and records, not parameters


def test_uncompressed_bytes_are_32_bits_a_parameter_and_a_header():
    record = run(algorithm_of(), rounds=1)[2][0]
    size = tree.count(PARAMS)
    assert record["bytes_up"] == 9 * (4 * size + wire.HEADER_BYTES)
    assert record["bytes_down"] == record["bytes_up"]
    assert record["nominal_bytes_up"] == 9 * 4 * size


def test_seeds_differ_and_repeat():
    algorithm = algorithm_of(ROTATED)
    first, again = run(algorithm)[0], run(algorithm)[0]
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = run(algorithm, seed=4)[0]
    assert tree.sha256(first) != tree.sha256(other)


def test_bad_numbers_are_refused():
    with pytest.raises(InputError, match="1 to 13 clients"):
        simulator_of(algorithm_of(), cohort=14)
    with pytest.raises(InputError, match="the devices there are"):
        simulator_of(algorithm_of(), devices=99)


@pytest.mark.parametrize("devices", [1, 3])
def test_a_plan_holds_each_client_once(devices):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 50, 100)
    ids = rng.choice(100, 37, replace=False)
    found = plan(ids, sizes, lanes=4, devices=devices)
    assert found.shape[0] % devices == 0
    assert sorted(found[found != DUMMY].tolist()) == sorted(ids.tolist())
    work = np.where(found == DUMMY, 0, sizes[found]).max(1).reshape(devices, -1)
    assert np.all(np.diff(work, axis=1) <= 0)
    assert work.sum(1).max() <= work.sum(1).min() + work.max()


def test_lanes_follow_model_and_device():
    assert choose_lanes(48_670, 1000, 1, "cpu") == 16
    assert choose_lanes(1_206_590, 100, 1, "cpu") == 1
    assert choose_lanes(48_670, 5, 1, "cpu") == 5
    assert choose_lanes(1_206_590, 1000, 1, "gpu") > 32


@pytest.mark.parametrize("devices", [1, 3])
def test_a_plan_keeps_tiers_apart(devices):
    rng = np.random.default_rng(0)
    sizes, kinds = rng.integers(1, 50, 100), rng.integers(0, 3, 100)
    ids = rng.choice(100, 37, replace=False)
    most = chunks_of(37, 4, devices, 3)
    found = plan(ids, sizes, 4, devices, most, kinds[ids], (1.0, 0.5, 0.1))
    assert found.shape == (devices * most, 4)
    assert sorted(found[found != DUMMY].tolist()) == sorted(ids.tolist())
    for chunk in found:
        assert len(set(kinds[chunk[chunk != DUMMY]])) <= 1


def test_the_most_chunks_that_tiers_can_need():
    """By trying: three tiers of 1 to 9 clients in chunks of four."""
    for cohort in range(3, 12):
        splits = [
            (a, b, cohort - a - b)
            for a in range(1, cohort)
            for b in range(1, cohort - a)
        ]
        worst = max(sum(-(-n // 4) for n in split) for split in splits)
        assert chunks_of(cohort, 4, 1, 3) >= worst
        assert chunks_of(cohort, 4, 1, 3) <= worst + 1
