"""Five hundred rounds: flat memory, one compilation, steady speed."""

from __future__ import annotations

import gc
from pathlib import Path

import jax
import numpy as np
import pytest
from systems import labelled, setup

from fedjax_compress import algorithms, registry
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Task

LONG, CLIENTS, WIDTH, CLASSES = 400, 400, 784, 10


def resident_megabytes() -> float:
    """Memory of this process that is not swapped out or given back."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("limit", [2**31, 0], ids=["resident", "on the host"])
def test_five_hundred_rounds_are_like_the_first(limit):
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(CLIENTS), rng.integers(10, 60, CLIENTS))
    data = labelled(
        rng.integers(0, 255, (len(owner), WIDTH), np.uint8),
        rng.integers(0, CLASSES, len(owner)).astype(np.int32),
        owner,
        CLIENTS,
    )
    model = registry.build("model", "logistic", Task((WIDTH,), CLASSES))
    local = registry.build("local", "sgd(batch=10)", model)
    algorithm = algorithms.fedavg(
        setup(local, uplink="error_feedback(uniform(bits=4))")
    )

    def start():
        simulator = Simulator(
            algorithm,
            data,
            cohort=100,
            sampling=registry.build("sampling", "uniform"),
            resident_limit=limit,
        )
        return simulator, simulator.start(model.init(jax.random.key(0)))

    old, state = start()
    memory: list[float] = []
    for _ in range(LONG // 50):
        state, _ = old.advance(state, 50)
        memory.append(resident_megabytes())
    # Once everybody has taken part nothing more is kept: 100 rounds see to that.
    assert max(memory[2:]) - min(memory[2:]) < 20

    # The machine's speed drifts, so the first hundred rounds run once more, in turn
    # with the last hundred.
    new, fresh = start()
    fresh, _ = new.advance(fresh, 1)
    first: list[float] = []
    last: list[float] = []
    for _ in range(20):
        fresh, records = new.advance(fresh, 5)
        first += [r["seconds"] for r in records]
        state, records = old.advance(state, 5)
        last += [r["seconds"] for r in records]
    assert old.traces == new.traces == 1
    assert state.round == 500
    assert np.median(last) < 1.05 * np.median(first)
