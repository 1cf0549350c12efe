"""What every registered algorithm must do: what must not matter does not matter.

A test that takes ``algorithm_name`` runs over all of them. They are
built in ``helpers/every_algorithm.py``; with random rounding see
``simulate/test_truth.py``.

Layouts (lanes, devices, where states live) are compared with the base layout: one by
one for a plain algorithm, one of tiers and one of masks; for the others all at once.
"""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from by_hand import End, play
from every_algorithm import (
    CLIENTS,
    COHORT,
    MORE,
    SEED,
    algorithm_of,
    data,
    names,
    params_of,
)

from fedjax_compress import registry, tree, wire
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.chunk import kept_init

ROUNDS = 5
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
    wanted = next((x for x in LAYOUTS if x in metafunc.fixturenames), None)
    if wanted is None:
        return metafunc.parametrize("algorithm_name", names())
    pairs = [
        pytest.param(name, layout, id=f"{name}-{number}")
        for name in names()
        for number, layout in enumerate(LAYOUTS[wanted][name not in EACH_BY_ITSELF])
        if name not in MORE or layout is BASE
    ]
    metafunc.parametrize(("algorithm_name", wanted), pairs)


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
        assert line.keys() == other.keys()
        for name, value in line.items():
            if isinstance(value, float):
                np.testing.assert_allclose(value, other[name], rtol=1e-5)
            else:
                assert value == other[name]


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
    start = kept_init(algorithm_of(algorithm_name), params_of(algorithm_name))
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
    """Two rounds once more, client by client, every message packed.

    In the second, the server knows of some clients what they have.
    """
    sizes = {"broadcast": [], "unicast": [], "report": []}

    def packed(kind, payload, like):
        if kind == "report" or jax.tree.leaves(payload):
            sizes[kind].append(len(wire.pack(jax.device_get(payload))))
        return payload

    end, params = End(algorithm_of(algorithm_name)), params_of(algorithm_name)
    rounds = play(end, end, params, data(), 2, packed)
    for record, _ in zip(base(algorithm_name)[1], rounds, strict=False):
        down = COHORT * sum(sizes["broadcast"]) + sum(sizes["unicast"])
        assert record["bytes_down"] == down
        assert record["bytes_up"] == sum(sizes["report"])
        sizes |= {kind: [] for kind in sizes}
