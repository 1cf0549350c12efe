"""Every registered algorithm, and the small federation that tests run it on.

An algorithm is built from the usual parts; clients and server keep a state, so that
states are tested too. The compressors decide nothing at random from the values, so that
a last bit that differs stays one.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from systems import labelled, local, setup

from fedjax_compress import registry
from fedjax_compress.typing import Population, Task

CLIENTS, COHORT, SEED = 13, 9, 3
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
    "fedgkt": "fedgkt(mlp(hidden=(4,)), epochs=2, batch=5, distils=both)",
    "fed_df": "fed_df(others=(mlp(hidden=(4,)),), student=sgd(batch=4), rows=6)",
    "fed_et": (
        "fed_et(mlp(hidden=(7, 6)), others=(mlp(hidden=(4, 6)),), shared=output, "
        "student=sgd(batch=4))"
    ),
    "fed_md": (
        "fed_md(others=(mlp(hidden=(4,)),), digest=sgd(batch=4), "
        "pretrain=sgd(batch=4), rows=6)"
    ),
}
"""For those whose defaults suit no model of 18 parameters."""
LOW_RANK = "structured_updates(form=low_rank, rank=2)"
SCORED = "federated_dropout(keep_rate=0.5, select=adaptive, average=holders)"
MORE = (LOW_RANK, SCORED)
"""Other forms of an algorithm, tested like algorithms of their own."""
KNOWLEDGE = ("fedgkt", "fed_md")
ENSEMBLES = ("fed_df", "fed_et")
MASKS = ("federated_pruning", "prunefl", "lotteryfl")
SUBMODELS = ("federated_dropout", SCORED, "heterofl", "fjord")
UPLINKS = dict.fromkeys(
    ("structured_updates", LOW_RANK, "magnitude_pruning", *SUBMODELS),
    "on_vector(top_k(0.5))",
) | dict.fromkeys((*MASKS, *KNOWLEDGE), "cast(bfloat16)")
"""For those whose uplink may not keep a state."""
DOWNLINKS = dict.fromkeys((*SUBMODELS, *MASKS, *KNOWLEDGE), "cast(bfloat16)")
"""Likewise."""
MODELS = dict.fromkeys((*SUBMODELS, *MASKS, *KNOWLEDGE, *ENSEMBLES), "mlp(hidden=(6,))")
"""For those that need units to leave out."""


def names():
    """Of all that is registered, and of the other forms."""
    return [*registry.entries("algorithm"), *MORE]


@functools.cache
def data():
    """Thirteen clients of one to twelve rows."""
    rng = np.random.default_rng(2)
    sizes = 1 + rng.integers(0, 12, CLIENTS)
    owner = np.repeat(np.arange(CLIENTS), sizes).astype(np.int32)
    features = rng.normal(size=(len(owner), WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, len(owner)).astype(np.int32)
    return labelled(features, labels, owner, CLIENTS)


@functools.cache
def public():
    """Ten rows of nobody."""
    rng = np.random.default_rng(5)
    return {
        "features": rng.normal(size=(10, WIDTH)).astype(np.float32),
        "labels": rng.integers(0, CLASSES, 10).astype(np.int32),
    }


def remembering(local):
    """The local update with a memory: the rows that the client has learned from."""

    def run(problem, shard, context):
        trained = local.run(problem, shard, context)
        return trained._replace(memory=problem.memory + trained.metrics["examples"])

    return local._replace(init=lambda start: jnp.zeros(()), run=run)


@functools.cache
def model_of(name):
    """The model that an algorithm is tested with."""
    text = MODELS.get(name, "logistic")
    return registry.build("model", text, Task((WIDTH,), CLASSES))


@functools.cache
def params_of(name):
    """Its parameters before the first round."""
    return model_of(name).init(jax.random.key(0))


def new_algorithm(name):
    """The algorithm, built anew: it shares no object with one built before."""
    parts = setup(
        remembering(local("sgd(batch=4)", model_of(name))),
        server="fedavgm(lr=1.0, momentum=0.5)",
        uplink=UPLINKS.get(name, UPLINK),
        downlink=DOWNLINKS.get(name, DOWNLINK),
        population=Population(
            Task((WIDTH,), CLASSES), CLIENTS, int(data().sizes.max())
        ),
        public=public(),
    )
    return registry.build("algorithm", EXAMPLES.get(name, name), parts)


algorithm_of = functools.cache(new_algorithm)
"""The algorithm, built once."""


def cohort_of(number):
    """Ids of the clients of a round (0-based)."""
    sampling = registry.build("sampling", "uniform")
    return sampling(SEED, number, data().sizes, COHORT)
