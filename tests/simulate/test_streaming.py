"""Rows that stay on the host: the same run, only the cohort's rows are read."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from systems import labelled, setup

from fedjax_compress import algorithms, registry
from fedjax_compress.clients import ClientData
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.plan import DUMMY, Planner
from fedjax_compress.simulate.supply import Stream
from fedjax_compress.typing import Task, Tiers

CLIENTS, WIDTH, CLASSES, COHORT = 23, 4, 3, 7
MODEL = registry.build("model", "logistic", Task((WIDTH,), CLASSES))
PARAMS = MODEL.init(jax.random.key(0))
UNIFORM = registry.build("sampling", "uniform")


def rows_of_clients():
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 9, CLIENTS)
    owner = np.repeat(np.arange(CLIENTS), sizes)
    features = rng.normal(size=(len(owner), WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, len(owner)).astype(np.int32)
    return labelled(features, labels, owner, CLIENTS)


def mapped(data, folder):
    """The same rows in memory-mapped files."""

    def write(name, column):
        np.save(folder / name, column)
        return np.load(folder / name, mmap_mode="r")

    columns = {n: write(f"{n}.npy", x) for n, x in data.columns.items()}
    return ClientData(columns, data.offsets)


def pooled(data):
    """The same rows, named by number in a shuffled pool."""
    order = np.random.default_rng(1).permutation(data.offsets[-1])
    back = np.argsort(order).astype(np.int32)
    columns = {n: x[order] for n, x in data.columns.items()}
    return ClientData(columns, data.offsets, back)


def run(data, rounds=6, **options):
    local = registry.build("local", "sgd(lr=0.3, batch=3)", MODEL)
    algorithm = algorithms.fedavg(setup(local, uplink="error_feedback(top_k(0.3))"))
    simulator = Simulator(
        algorithm, data, cohort=COHORT, sampling=UNIFORM, lanes=2, **options
    )
    state, records = simulator.advance(simulator.start(PARAMS), rounds)
    return simulator, simulator.snapshot(state), records


@pytest.fixture(scope="module")
def resident():
    return run(rows_of_clients())


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("form", ["mapped", "pooled", "held back"])
def test_streamed_rows_give_the_run_of_resident_rows(form, devices, tmp_path, resident):
    data, options = rows_of_clients(), {"devices": devices}
    if form == "mapped":
        data = mapped(data, tmp_path)
    if form == "pooled":
        data = pooled(data)
    if form != "mapped":
        options["resident_limit"] = 0
    simulator, found, records = run(data, **options)
    assert simulator.traces == 1
    server, wanted = found["server"], resident[1]["server"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
        server,
        wanted,
    )
    for line, other in zip(records, resident[2], strict=True):
        assert line["bytes_up"] == other["bytes_up"]
        assert line["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)


def test_a_resident_pool_gives_the_same_run_bit_for_bit(resident):
    found = run(pooled(rows_of_clients()))[1]
    jax.tree.map(np.testing.assert_array_equal, found, resident[1])


@pytest.mark.parametrize("devices", [1, 3])
def test_a_stream_holds_the_rows_of_the_cohort_and_no_others(devices):
    data = rows_of_clients()
    planner = Planner(UNIFORM, 0, data.sizes, COHORT, 2, devices)
    placement = Placement(devices)
    stream = Stream(data, placement, planner.chunks * 2)
    ids = planner(4)[None]
    places, rows = stream(ids)
    places, each = places.reshape(devices, -1), ids.reshape(devices, -1)
    features = np.asarray(rows.columns["features"])
    features = features.reshape(devices, stream.capacity, WIDTH)
    offsets = np.asarray(rows.offsets).reshape(devices, -1)
    for d in range(devices):
        assert offsets[d, -1] == data.sizes[each[d][each[d] != DUMMY]].sum()
        assert not features[d, offsets[d, -1] :].any()
        for client, place in zip(each[d], places[d], strict=True):
            if client == DUMMY:
                assert place == len(offsets[d]) - 1
                continue
            start, end = offsets[d, place : place + 2]
            own = slice(*data.offsets[client : client + 2])
            wanted = data.columns["features"][own]
            np.testing.assert_array_equal(features[d, start:end], wanted)


def test_capacity_is_what_the_largest_clients_need():
    data = rows_of_clients()
    stream = Stream(data, Placement(1), 4)
    need = np.sort(data.sizes)[-4:].sum()
    assert need <= stream.capacity < need + 64


def test_a_failure_while_reading_ahead_is_told_by_the_round_that_needs_it():
    data = rows_of_clients()
    calls = []

    def sampling(seed, number, sizes, cohort):
        calls.append(number)
        if number == 2:
            raise RuntimeError("broken source")
        return UNIFORM(seed, number, sizes, cohort)

    algorithm = algorithms.fedavg(setup(registry.build("local", "sgd(batch=3)", MODEL)))
    simulator = Simulator(algorithm, data, cohort=COHORT, sampling=sampling, lanes=2)
    state, records = simulator.advance(simulator.start(PARAMS), 2)
    assert len(records) == 2
    with pytest.raises(RuntimeError, match="broken source"):
        simulator.advance(state, 1)


def test_homes_keep_each_client_on_its_process():
    data = rows_of_clients()
    planner = Planner(UNIFORM, 0, data.sizes, COHORT, 2, 4, homes=2)
    for number in range(5):
        ids = planner(number)
        drawn = UNIFORM(0, number, data.sizes, COHORT)
        assert sorted(ids[ids != DUMMY]) == sorted(drawn)
        assert ids.shape == (4 * planner.chunks, 2)
        for home, part in enumerate(np.split(ids, 2)):
            assert np.all(part[part != DUMMY] % 2 == home)


@pytest.mark.parametrize(
    ("tiers", "words"),
    [([0, 7, 1], "not 7"), ([0, -2, 1], "not -2"), ([0.0] * 3, r"not float64\[3\]")],
)
def test_a_tier_that_does_not_exist_is_named(tiers, words):
    kinds = Tiers(lambda seed, number, ids: np.array(tiers), (None, None), (1.0, 1.0))
    planner = Planner(UNIFORM, 0, rows_of_clients().sizes, 3, 1, 1, tiers=kinds)
    expected = f"^round 1: the tiers of 3 clients must be .* from 0 to 1, {words}$"
    with pytest.raises(InputError, match=expected):
        planner(0)
