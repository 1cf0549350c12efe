"""A small model, a few clients, and rounds of an algorithm client by client."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, registry, tree
from fedjax_compress.clients import group
from fedjax_compress.randomness import root_key
from fedjax_compress.simulate.round import broadcast_coin, client_coin
from fedjax_compress.typing import Task

WIDTH, CLASSES, CLIENTS, ROWS = 5, 3, 4, 6


class Bench(NamedTuple):
    """What the tests of algorithms on a small model share."""

    model: Any
    params: Any
    data: Any

    def build(self, text, local="sgd(lr=0.5, steps=2, batch=6)", **links):
        """An algorithm from its specification."""
        links = {"uplink": "identity", "downlink": "identity", **links}
        return registry.build(
            "algorithm",
            text,
            registry.build("local", local, self.model),
            registry.build("aggregate", "mean"),
            registry.build("server", links.pop("server", "fedavg")),
            compress.parse(links["uplink"]),
            compress.parse(links["downlink"]),
        )

    def rounds(self, algorithm, rounds, tiers=None, clients=CLIENTS):
        """The server before and after each round, and the reports of each round."""
        tiers = [0] * clients if tiers is None else tiers
        each = [algorithm] if algorithm.tiers is None else algorithm.tiers.each
        root = root_key(1)

        def one(tier):
            """A client's report, decoded: a program for all clients of a tier."""

            @jax.jit
            def run(view, state, shard, coin):
                report = each[tier].client(view, state, shard, coin)
                return report, each[tier].reduce(view, report, coin.shared)

            return run

        broadcast, update = jax.jit(algorithm.broadcast), jax.jit(algorithm.server)
        add = jax.jit(tree.add)
        trained = {tier: one(tier) for tier in set(tiers)}

        def step(server, states, number):
            view, message, server = broadcast(server, broadcast_coin(root, number))
            total, reports = None, []
            for k in range(clients):
                coin = client_coin(root, number, jnp.asarray(k))
                shard = self.data.shard(jnp.asarray(k), jnp.asarray(ROWS))
                report, acc = trained[tiers[k]](view, states[k], shard, coin)
                total = acc if total is None else add(total, acc)
                reports.append(report)
            return update(server, total), reports, message

        server = jax.jit(algorithm.init)(jax.random.key(0), self.params)
        states = [algorithm.client_init(self.params) for _ in range(clients)]
        servers, history = [jax.device_get(server)], []
        for number in range(rounds):
            server, reports, message = step(server, states, jnp.asarray(number))
            states = [report.state for report in reports]
            servers.append(jax.device_get(server))
            history.append((jax.device_get(reports), jax.device_get(message)))
        return servers, history


@pytest.fixture(scope="session")
def bench():
    model = registry.build("model", "mlp(hidden=(6,))", Task((WIDTH,), CLASSES))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(CLIENTS * ROWS, WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, CLIENTS * ROWS).astype(np.int32)
    labels[:ROWS] = 1  # the first client knows one class only
    owner = np.repeat(np.arange(CLIENTS), ROWS).astype(np.int32)
    params = jax.tree.map(lambda x: x + 0.1, model.init(jax.random.key(0)))
    return Bench(model, params, group(features, labels, owner, CLIENTS))
