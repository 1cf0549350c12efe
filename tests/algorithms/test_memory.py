"""What a local update keeps between rounds is kept for it, by every system."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from rounds import player

from fedjax_compress.errors import InputError
from fedjax_compress.simulate.chunk import kept_init
from fedjax_compress.typing import LocalUpdate, Trained

SYSTEMS = [
    "fedavg",
    "fetch_sgd(rows=1, columns=9)",
    "structured_updates(form=low_rank, rank=1)",
    "magnitude_pruning(0.5)",
    "federated_pruning",
    "prunefl(times=own, computation=(1e-6, 2e-6), initial_rounds=0)",
    "lotteryfl",
    "federated_dropout(0.5)",
    "heterofl(rates=(1.0, 0.5))",
    "fjord(rates=(1.0, 0.5))",
]


def counting(model):
    """Counts its rounds from a hundred on, moves nothing, and says what it counted."""

    def run(problem, shard, context):
        still = jax.tree.map(jnp.zeros_like, problem.start)
        metrics = {"loss": problem.memory, "examples": jnp.ones(())}
        return Trained(still, problem.memory + 1, metrics)

    return LocalUpdate(run, init=lambda start: jnp.full((), 100.0), model=model)


@pytest.mark.parametrize("text", SYSTEMS)
def test_the_memory_of_a_client_comes_back_to_it(bench, text):
    algorithm = bench.build(text, counting(bench.model))
    play = player(algorithm, bench.params, bench.data)
    server = algorithm.init(jax.random.key(0), bench.params)
    kept = [kept_init(algorithm, bench.params)]
    for number in range(3):
        done = play(server, kept, number)
        server, kept = done.server, done.kept
        assert float(done.reports[0].metrics["loss"]) == 100 + number


def averaging(model):
    """Keeps a mean of its starts, in their shapes."""

    def run(problem, shard, context):
        still = jax.tree.map(jnp.zeros_like, problem.start)
        memory = jax.tree.map(lambda m, s: (m + s) / 2, problem.memory, problem.start)
        metrics = {"loss": jnp.zeros(()), "examples": jnp.ones(())}
        return Trained(still, memory, metrics)

    zeros = lambda start: jax.tree.map(jnp.zeros_like, start)  # noqa: E731
    return LocalUpdate(run, init=zeros, model=model)


@pytest.mark.parametrize("text", SYSTEMS)
def test_a_memory_in_the_shapes_of_what_is_trained(bench, text):
    """Where clients differ in size there is no such thing."""
    algorithm = bench.build(text, averaging(bench.model))
    if algorithm.tiers is not None:
        with pytest.raises(InputError, match=r"keeps at a client of .* another size"):
            kept_init(algorithm, bench.params)
        return
    server = algorithm.init(jax.random.key(0), bench.params)
    kept = [kept_init(algorithm, bench.params)]
    done = player(algorithm, bench.params, bench.data)(server, kept, 0)
    before, after = (jax.tree.leaves(one[0].state) for one in (kept, done.kept))
    assert [x.shape for x in before] == [x.shape for x in after]
