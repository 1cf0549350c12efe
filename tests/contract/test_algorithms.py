"""What every registered algorithm must do: what must not matter does not matter.

A test that takes ``algorithm_name`` runs over all of them. An algorithm is built from
the five usual parts; clients and server keep a state, so that states are tested too.
The compressors decide nothing at random from the values, so that a last bit that
differs stays one: with random rounding see ``simulate/test_truth.py``.

Layouts (lanes, devices, where states live) are compared with the base layout: one by
one for a plain algorithm, one of tiers and one of masks; for the others all at once.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, registry, tree, wire
from fedjax_compress.clients import group
from fedjax_compress.randomness import root_key
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.round import broadcast_coin, client_coin
from fedjax_compress.typing import Task

CLIENTS, COHORT, ROUNDS, SEED = 13, 9, 5, 3
WIDTH, CLASSES = 5, 3
UPLINK = "error_feedback(on_vector(top_k(0.3)))"
DOWNLINK = "error_feedback(cast(bfloat16))"
EXAMPLES = {
    "fetch_sgd": "fetch_sgd(rows=3, columns=5, fraction=0.3, momentum=0.5)",
    "structured_updates": "structured_updates(fraction=0.5)",
    "federated_dropout": "federated_dropout(keep_rate=0.5)",
    "heterofl": "heterofl(rates=(1.0, 0.5))",
    "fjord": "fjord(rates=(1.0, 0.5))",
    "federated_pruning": (
        "federated_pruning(sparsity=cubic(0.5, begin=0, end=3), every=1, "
        "refine_until=4)"
    ),
    "prunefl": (
        "prunefl(times=own, computation=(1e-6, 2e-6), every=2, initial_rounds=12)"
    ),
    "lotteryfl": "lotteryfl(threshold=0.4)",
}
"""For those whose defaults suit no model of 18 parameters."""
LOW_RANK = "structured_updates(form=low_rank, rank=2)"
SCORED = "federated_dropout(keep_rate=0.5, select=adaptive, average=holders)"
MORE = (LOW_RANK, SCORED)
"""Other forms of an algorithm, tested like algorithms of their own."""
MASKS = ("federated_pruning", "prunefl", "lotteryfl")
SUBMODELS = ("federated_dropout", SCORED, "heterofl", "fjord")
UPLINKS = dict.fromkeys(
    ("structured_updates", LOW_RANK, "magnitude_pruning", *SUBMODELS),
    "on_vector(top_k(0.5))",
) | dict.fromkeys(MASKS, "cast(bfloat16)")
"""For those whose uplink may not keep a state."""
DOWNLINKS = dict.fromkeys((*SUBMODELS, *MASKS), "cast(bfloat16)")
"""Likewise."""
MODELS = dict.fromkeys((*SUBMODELS, *MASKS), "mlp(hidden=(6,))")
"""For those that need units to leave out."""


EACH_BY_ITSELF = ("fedavg", "heterofl", "prunefl")
"""Whose layouts are compared one by one."""
ONE_LANE = {"lanes": 1}
"""No dummy, no step of weight zero."""
SIXTEEN = {"lanes": 16, "rounds_per_call": 3}
"""Seven dummies, most padding; five rounds in calls of three at most."""
ON_THE_HOST = {"resident_limit": 0}
TWO_DEVICES = {"devices": 2}
"""States live on the host then, too."""
ALL = {**SIXTEEN, **TWO_DEVICES}
BASE: dict[str, int] = {}
LAYOUTS = {
    "chunks": ([ONE_LANE, SIXTEEN], [ALL]),
    "elsewhere": ([ON_THE_HOST, TWO_DEVICES], [ALL]),
    "again": ([BASE, TWO_DEVICES], [BASE, ALL]),
}
"""Fixture -> the layouts for those whose layouts are compared one by one, and for all
others."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "algorithm_name" not in metafunc.fixturenames:
        return
    names = [*registry.entries("algorithm"), *MORE]
    wanted = next((x for x in LAYOUTS if x in metafunc.fixturenames), None)
    if wanted is None:
        return metafunc.parametrize("algorithm_name", names)
    pairs = [
        pytest.param(name, layout, id=f"{name}-{number}")
        for name in names
        for number, layout in enumerate(LAYOUTS[wanted][name not in EACH_BY_ITSELF])
        if name not in MORE or layout is BASE
    ]
    metafunc.parametrize(("algorithm_name", wanted), pairs)


@functools.cache
def data():
    rng = np.random.default_rng(2)
    sizes = 1 + rng.integers(0, 12, CLIENTS)
    owner = np.repeat(np.arange(CLIENTS), sizes).astype(np.int32)
    features = rng.normal(size=(len(owner), WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, len(owner)).astype(np.int32)
    return group(features, labels, owner, CLIENTS)


def remembering(local):
    """The local update with a state: the rows that the client has learned from."""

    def run(params, state, shard, key, **options):
        update, _, metrics = local.run(params, (), shard, key, **options)
        return update, state + metrics["examples"], metrics

    # The signature stays that of the update inside: some algorithms ask for it.
    run = functools.wraps(local.run)(run)
    return local._replace(init=lambda params: jnp.zeros(()), run=run)


@functools.cache
def model_of(name):
    text = MODELS.get(name, "logistic")
    return registry.build("model", text, Task((WIDTH,), CLASSES))


@functools.cache
def params_of(name):
    return model_of(name).init(jax.random.key(0))


@functools.cache
def algorithm_of(name):
    return registry.build(
        "algorithm",
        EXAMPLES.get(name, name),
        remembering(registry.build("local", "sgd(batch=4)", model_of(name))),
        registry.build("aggregate", "mean"),
        registry.build("server", "fedavgm(lr=1.0, momentum=0.5)"),
        compress.parse(UPLINKS.get(name, UPLINK)),
        compress.parse(DOWNLINKS.get(name, DOWNLINK)),
    )


_made: dict[str, dict] = {}
"""Simulators of the algorithm that is tested: its tests follow each other."""


def simulator_of(name, **options):
    """A simulator that has compiled at most once, shared by the tests."""
    if name not in _made:
        _made.clear()
        base.cache_clear()
    made = _made.setdefault(name, {})
    key = tuple(sorted(options.items()))
    if key not in made:
        made[key] = new_simulator(name, **options)
    return made[key]


def new_simulator(name, lanes=4, **options):
    options = {"cohort": COHORT, "seed": SEED, **options}
    sampling = registry.build("sampling", "uniform")
    algorithm = algorithm_of(name)
    made = Simulator(algorithm, data(), sampling=sampling, lanes=lanes, **options)
    made.params = params_of(name)
    return made


def run(simulator, rounds=ROUNDS, state=None):
    state = state or simulator.start(simulator.params)
    state, records = simulator.advance(state, rounds)
    clean = [{k: v for k, v in r.items() if "second" not in k} for r in records]
    return jax.device_get(state), clean


@functools.cache
def base(name):
    return run(simulator_of(name))


def assert_same_run(found, expected):
    """Equal but for rounding; bytes and counts exactly."""
    for part in (0, 1):
        pairs = jax.tree.leaves(found[0][part]), jax.tree.leaves(expected[0][part])
        for x, y in zip(*pairs, strict=True):
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6)
    assert found[0].round == expected[0].round
    for line, other in zip(found[1], expected[1], strict=True):
        losses = line["train_loss"], other["train_loss"]
        np.testing.assert_allclose(*losses, rtol=1e-5)
        assert {**line, "train_loss": 0} == {**other, "train_loss": 0}


def test_a_run_learns_and_uses_its_state(algorithm_name):
    """Lest the tests below compare nothing with nothing."""
    state, records = base(algorithm_name)
    losses = [r["train_loss"] for r in records]
    assert losses[-1] < losses[0]
    assert [r["round"] for r in records] == list(range(1, ROUNDS + 1))
    assert all(r["clients"] == COHORT and r["dropped"] == 0 for r in records)
    assert any(np.any(x) for x in jax.tree.leaves(state.store))
    assert tree.all_finite((state.server, state.store))


def test_chunks_padding_dummies_and_calls_change_nothing_beyond_rounding(
    algorithm_name, chunks
):
    state, records = run(simulator_of(algorithm_name, **chunks))
    if chunks is ALL:  # the states, kept elsewhere, are the next test's
        state = state._replace(store=base(algorithm_name)[0].store)
    assert_same_run((state, records), base(algorithm_name))


def test_the_order_of_the_cohort_changes_nothing(algorithm_name):
    simulator = simulator_of(algorithm_name)
    sampling = simulator.sampling
    try:
        simulator.sampling = lambda *given: sampling(*given)[::-1]
        found = run(simulator)
    finally:
        simulator.sampling = sampling
    assert_same_run(found, base(algorithm_name))
    jax.tree.map(np.testing.assert_array_equal, found[0], base(algorithm_name)[0])


def test_state_kept_on_the_host_is_the_state_kept_on_the_device(
    algorithm_name, elsewhere
):
    simulator = simulator_of(algorithm_name, **elsewhere)
    state, records = run(simulator)
    assert not simulator.resident
    kept_here = simulator.snapshot(state)["store"]
    seen = np.asarray(kept_here["ids"])
    resident = base(algorithm_name)[0].store
    start = algorithm_of(algorithm_name).client_init(params_of(algorithm_name))
    for rows, kept, new in zip(
        *map(jax.tree.leaves, (kept_here["rows"], resident, start)), strict=True
    ):
        kept = np.asarray(kept)
        np.testing.assert_allclose(rows, kept[seen], rtol=2e-5, atol=1e-6)
        assert np.all(np.delete(kept, seen, axis=0) == np.asarray(new))
    found = state._replace(store=resident), records
    assert_same_run(found, base(algorithm_name))


def test_going_on_from_a_saved_state_is_going_on(algorithm_name, again):
    """Bit for bit, from numpy arrays as a checkpoint holds them."""
    simulator = simulator_of(algorithm_name, **again)
    whole, lines = run(simulator)
    whole = jax.tree.map(np.array, simulator.snapshot(whole))
    half, first = run(simulator, 2)
    saved = jax.tree.map(np.array, simulator.snapshot(half))
    run(simulator, 1)  # whatever happens in between
    simulator.start(simulator.params)
    state = simulator.place(saved, half.round)
    found, rest = run(simulator, ROUNDS - 2, state)
    jax.tree.map(np.testing.assert_array_equal, simulator.snapshot(found), whole)
    assert first + rest == lines


def test_a_client_that_stays_away_keeps_its_state(algorithm_name):
    simulator = simulator_of(algorithm_name)
    before = run(simulator, 1)[0]
    before = jax.tree.map(np.array, before)
    after = run(simulator, 2)[0]
    here = simulator.sampling(SEED, 1, simulator.sizes, COHORT)
    away = np.setdiff1d(np.arange(CLIENTS), here)
    assert len(away) == CLIENTS - COHORT
    pairs = jax.tree.leaves(before.store), jax.tree.leaves(after.store)
    for old, new in zip(*pairs, strict=True):
        np.testing.assert_array_equal(old[away], new[away])
    assert any(np.any(a[here] != b[here]) for a, b in zip(*pairs, strict=True))


def test_the_ledger_counts_packed_bytes(algorithm_name):
    """The first round once more, client by client, every message packed."""
    algorithm, root = algorithm_of(algorithm_name), root_key(SEED)
    sizes, up, down = data().sizes, 0, 0
    server = algorithm.init(jax.random.key(0), params_of(algorithm_name))
    broadcast = jax.jit(algorithm.broadcast)
    view, message, _ = broadcast(server, broadcast_coin(root, 0))
    each = [algorithm] if algorithm.tiers is None else algorithm.tiers.each
    clients = [jax.jit(tier.client) for tier in each]
    start = algorithm.client_init(params_of(algorithm_name))
    cohort = registry.build("sampling", "uniform")(SEED, 0, sizes, COHORT)
    for number in cohort:
        shard = data().shard(jnp.asarray(number), jnp.asarray(sizes[number]))
        coin = client_coin(root, 0, number)
        tier = 0
        if algorithm.tiers is not None:
            (tier,) = algorithm.tiers.of(SEED, 0, np.array([number]))
        report = clients[tier](view, start, shard, coin)
        up += len(wire.pack(jax.device_get(report.payload)))
        for sent in (message, report.down):
            if jax.tree.leaves(sent):
                down += len(wire.pack(jax.device_get(sent)))
    first = base(algorithm_name)[1][0]
    assert (first["bytes_up"], first["bytes_down"]) == (up, down)
