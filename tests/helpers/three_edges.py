"""A federation of three clients for FedGKT."""

from __future__ import annotations

import functools

import jax
import numpy as np
from systems import labelled, local, setup

from fedjax_compress import registry
from fedjax_compress.typing import Population, Task

SIZES = (5, 1, 7)
WIDTH, CLASSES, HIDDEN, WIDE = 4, 3, 6, 5
TASK = Task((WIDTH,), CLASSES)
EDGE, NET = f"mlp(hidden=({HIDDEN}, 3))", f"mlp(hidden=({WIDE},))"
BATCH, EPOCHS, LR = 3, 2, 0.2
UNIFORM = registry.build("sampling", "uniform")


@functools.cache
def data():
    rng = np.random.default_rng(5)
    owner = np.repeat(np.arange(len(SIZES)), SIZES).astype(np.int32)
    features = rng.normal(size=(len(owner), WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, len(owner)).astype(np.int32)
    return labelled(features, labels, owner, len(SIZES))


@functools.cache
def edge():
    return registry.build("model", EDGE, TASK)


@functools.cache
def params():
    return edge().init(jax.random.key(1))


def algorithm(
    learns="sgd(lr=0.3, batch=2, epochs=1)", links=(), server=f"fedavg(lr={LR})",
    **options,
):  # fmt: skip
    options = {"epochs": EPOCHS, "batch": BATCH, "alpha": 0.7} | options
    options.setdefault("optimizer", None)
    parts = setup(
        local(learns, edge()), "mean", server, *links,
        population=Population(TASK, len(SIZES), max(SIZES)),
    )  # fmt: skip
    return registry.entries("algorithm")["fedgkt"].factory(parts, NET, **options)


def rows_of(client):
    offsets = np.asarray(data().offsets)
    mine = slice(offsets[client], offsets[client + 1])
    return tuple(np.asarray(data().columns[n])[mine] for n in ("features", "labels"))
