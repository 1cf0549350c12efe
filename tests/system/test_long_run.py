"""Five hundred rounds: flat memory, one compilation, steady speed."""

from __future__ import annotations

import gc
from pathlib import Path

import jax
import numpy as np
import pytest

from fedjax_compress import algorithms, compress, registry
from fedjax_compress.clients import group
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Task

ROUNDS, CLIENTS, WIDTH, CLASSES = 500, 400, 784, 10


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
    data = group(
        rng.integers(0, 255, (len(owner), WIDTH), np.uint8),
        rng.integers(0, CLASSES, len(owner)).astype(np.int32),
        owner,
        CLIENTS,
    )
    model = registry.build("model", "logistic", Task((WIDTH,), CLASSES))
    algorithm = algorithms.fedavg(
        registry.build("local", "sgd(batch=10)", model),
        registry.build("aggregate", "mean"),
        registry.build("server", "fedavg"),
        compress.parse("error_feedback(uniform(bits=4))"),
        compress.parse("identity"),
    )
    simulator = Simulator(
        algorithm,
        data,
        cohort=100,
        sampling=registry.build("sampling", "uniform"),
        resident_limit=limit,
    )
    state = simulator.start(model.init(jax.random.key(0)))
    seconds: list[float] = []
    memory: list[float] = []
    for _ in range(ROUNDS // 50):
        state, records = simulator.advance(state, 50)
        seconds += [r["seconds"] for r in records]
        memory.append(resident_megabytes())
    assert simulator.traces == 1
    # Once everybody has taken part nothing more is kept: 100 rounds see to that.
    assert max(memory[2:]) - min(memory[2:]) < 20
    # Both ends of one run on a machine that others may use: the quicker half of each.
    first, last = np.sort(seconds[10:110])[:50], np.sort(seconds[-100:])[:50]
    assert np.median(last) < 1.05 * np.median(first)
