"""A small model, a few clients, and rounds of an algorithm client by client."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from rounds import player
from systems import local as local_of
from systems import setup

from fedjax_compress import registry
from fedjax_compress.clients import group
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.simulate.chunk import kept_init
from fedjax_compress.typing import Task

WIDTH, CLASSES, CLIENTS, ROWS = 5, 3, 4, 6


class Bench(NamedTuple):
    """What the tests of algorithms on a small model share."""

    model: Any
    params: Any
    data: Any

    def build(self, text, local="sgd(lr=0.5, steps=2, batch=6)", **parts):
        """An algorithm from its specification."""
        given = local_of(local, self.model) if isinstance(local, str) else local
        return registry.build("algorithm", text, setup(given, **parts))

    def rounds(self, algorithm, rounds, tiers=None, clients=CLIENTS):
        """The server before and after each round, and each ``Round``."""
        play = player(algorithm, self.params, self.data, root_key(1), jax.jit)
        server = jax.jit(algorithm.init)(jax.random.key(0), self.params)
        kept = [kept_init(algorithm, self.params)] * clients
        servers, history = [jax.device_get(server)], []
        for number in range(rounds):
            done = play(server, kept, number, tiers)
            server, kept = done.server, done.kept
            history.append(jax.device_get(done))
            servers.append(history[-1].server)
        return servers, history

    def first(self):
        """Features and labels of the first client."""
        return (self.data.columns[name][:ROWS] for name in ("features", "labels"))

    def loss(self, params, change=lambda outputs: outputs):
        """The mean loss of the first client's rows."""
        columns = {name: x[:ROWS] for name, x in self.data.columns.items()}
        outputs = change(self.model.apply(params, columns, None))
        return self.model.losses(outputs, columns)[0].mean()


@pytest.fixture(scope="session")
def bench():
    model = registry.build("model", "mlp(hidden=(6,))", Task((WIDTH,), CLASSES))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(CLIENTS * ROWS, WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, CLIENTS * ROWS).astype(np.int32)
    labels[:ROWS] = 1  # the first client knows one class only
    owner = np.repeat(np.arange(CLIENTS), ROWS).astype(np.int32)
    params = jax.tree.map(lambda x: x + 0.1, model.init(jax.random.key(0)))
    columns = {"features": features, "labels": labels}
    return Bench(model, params, group(columns, owner, CLIENTS))
