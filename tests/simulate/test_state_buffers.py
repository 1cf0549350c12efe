"""Memory through which client states pass: filled, given up, and read again."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup

from fedjax_compress import algorithms, registry
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.states import StateBuffer
from fedjax_compress.typing import Task

CHUNKS, LANES, WIDTH = 3, 2, 5
TEMPLATE = {
    "a": np.zeros((2, 4), np.float32),
    "b": np.zeros((), jnp.bfloat16),
    "none": np.zeros((0, 3), np.float32),
}


def fill(buffer, start):
    """Writes numbers that differ everywhere; returns what the program must see."""
    for place, rows in enumerate(buffer.rows):
        for leaf in jax.tree.leaves(rows):
            values = np.arange(leaf.size) + 100 * place + start
            leaf[...] = values.reshape(leaf.shape).astype(leaf.dtype)
    rows = [jax.tree.map(np.array, part) for part in buffer.rows]
    seats = len(rows) * CHUNKS, LANES
    return jax.tree.map(
        lambda *x: np.concatenate(x).reshape(*seats, *x[0].shape[1:]), *rows
    )


def places(buffer):
    """Addresses of what is not empty."""
    return [x.ctypes.data for x in jax.tree.leaves(buffer.rows) if x.size]


@pytest.mark.parametrize("devices", [1, 2])
def test_the_program_works_in_the_memory_that_the_host_fills(devices):
    buffer = StateBuffer(Placement(devices), TEMPLATE, CHUNKS, LANES)
    program = jax.jit(lambda t: jax.tree.map(lambda x: 2 * x, t), donate_argnums=0)
    memory = places(buffer)
    for start in (1, 7):
        expected = fill(buffer, start)
        given = buffer.arrays()
        seen = jax.device_get(jax.tree.map(jnp.copy, given))
        jax.tree.map(np.testing.assert_array_equal, seen, expected)
        buffer.take(program(given))
        found = jax.tree.map(lambda *x: np.concatenate(x), *buffer.rows)
        jax.tree.map(
            lambda x, e: np.testing.assert_array_equal(x, 2 * e.reshape(x.shape)),
            found,
            expected,
        )
        assert places(buffer) == memory
    assert len(set(memory)) == 2 * devices


def test_what_the_program_leaves_elsewhere_is_found_there():
    buffer = StateBuffer(Placement(2), TEMPLATE, CHUNKS, LANES)
    expected = fill(buffer, 3)
    kept = buffer.arrays()
    buffer.take(jax.tree.map(lambda x: x + 1, kept))
    found = jax.tree.map(lambda *x: np.concatenate(x), *buffer.rows)
    jax.tree.map(
        lambda x, e: np.testing.assert_array_equal(x, 1 + e.reshape(x.shape)),
        found,
        expected,
    )


def test_devices_with_memory_of_their_own_give_the_same_run(monkeypatch):
    """As on an accelerator: rows of the host's own, copied there and back."""

    def run():
        simulator, state = small_run("error_feedback(top_k(0.3))")
        state, records = simulator.advance(state, 6)
        return simulator.snapshot(state), records

    def apart(self, *given):
        make(self, *given)
        self._in_place, self._seats = False, given[2:]
        self.rows = [jax.tree.map(np.array, rows) for rows in self.rows]

    expected, before = run()
    make = StateBuffer.__init__
    monkeypatch.setattr(StateBuffer, "__init__", apart)
    found, after = run()
    assert [r["bytes_up"] for r in after] == [r["bytes_up"] for r in before]
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert all(np.any(rows) for rows in jax.tree.leaves(found["store"]["rows"]))


def small_run(uplink):
    """Twelve clients with residuals on the host, six a round; as it starts."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(12), 3)
    features = rng.normal(size=(36, WIDTH)).astype(np.float32)
    data = labelled(features, rng.integers(0, 3, 36).astype(np.int32), owner, 12)
    model = registry.build("model", "logistic", Task((WIDTH,), 3))
    local = registry.build("local", "sgd(lr=0.3, batch=3)", model)
    simulator = Simulator(
        algorithms.fedavg(setup(local, uplink=uplink)),
        data,
        cohort=6,
        sampling=registry.build("sampling", "uniform"),
        lanes=1,
        devices=2,
    )
    return simulator, simulator.start(model.init(jax.random.key(0)))


def test_a_round_neither_copies_nor_allocates_the_states_of_its_cohort():
    """The compiled text holds no copy of the whole, and memory is used again."""
    simulator, state = small_run("error_feedback(identity)")
    used = []
    for _ in range(6):
        state, _ = simulator.advance(state, 1)
        assert simulator._host is not None
        simulator._host.settle()
        assert simulator._host._last is not None
        used.append(tuple(places(simulator._host._last[1])))
    assert len(set(used)) == 2
    assert used[2:] == used[:4]
    text = simulator.programs.compiled[0].as_text()
    whole = re.escape(f"f32[3,1,{WIDTH},3]")
    assert re.search(rf"{whole}\S* parameter\(", text)
    assert not re.search(rf"{whole}\S* copy\(", text)
