"""The compiled engine against a FedAvg written as plain loops in numpy.

The loop knows nothing of chunks, lanes or devices. Logistic regression and its
gradient are written by hand; keys follow root -> round -> private or shared -> client.
The engine is compiled as for users here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup

from fedjax_compress import algorithms, compress, registry
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.numerics.shuffle import permute
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Keys, Task

CLIENTS, COHORT, ROUNDS, SEED = 17, 11, 5, 7
WIDTH, CLASSES = 6, 4
LR, BATCH, EPOCHS = 0.3, 4, 2
BROADCAST, CLIENT, PRIVATE, SHARED = 0, 1, 0, 1
LOCAL, UPLINK = 0, 1


pytestmark = pytest.mark.usefixtures("as_for_users")


def ragged_data():
    """Clients with 1 to 23 rows, most of them few."""
    rng = np.random.default_rng(0)
    sizes = np.minimum(1 + rng.geometric(0.15, CLIENTS), 23)
    sizes[3] = 1
    assignment = np.repeat(np.arange(CLIENTS), sizes).astype(np.int32)
    rows = len(assignment)
    features = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, rows).astype(np.int32)
    mixed = rng.permutation(rows)
    return labelled(features[mixed], labels[mixed], assignment[mixed], CLIENTS)


order_of = jax.jit(permute)


@jax.jit
def keys_of(root, number, client):
    """The keys of the broadcast and those of a client, by fold_in alone."""
    here = jax.random.fold_in(root, number)
    sides = jax.random.fold_in(here, BROADCAST), jax.random.fold_in(here, CLIENT)
    down, up = ([jax.random.fold_in(s, i) for i in (PRIVATE, SHARED)] for s in sides)
    return Keys(*down), Keys(*(jax.random.fold_in(k, client) for k in up))


def numpy_training(weights, features, labels, key):
    """SGD on softmax regression; float32 in, float32 out, all in numpy."""
    kernel, bias = (w.copy() for w in weights)
    for epoch in range(EPOCHS):
        order_key = jax.random.fold_in(jax.random.fold_in(key, 0), epoch)
        order = np.asarray(order_of(order_key, jnp.arange(30), len(labels)))
        order = order[: len(labels)]
        for begin in range(0, len(labels), BATCH):
            rows = order[begin : begin + BATCH]
            x, y = features[rows], np.eye(CLASSES, dtype=np.float32)[labels[rows]]
            logits = x @ kernel + bias
            share = np.exp(logits - logits.max(1, keepdims=True))
            share /= share.sum(1, keepdims=True)
            error = (share - y) / len(rows)
            kernel -= LR * x.T @ error
            bias -= LR * error.sum(0)
    return kernel, bias


def leaves_of(tree):
    """The (kernel, bias) of a logistic regression, by rank."""
    leaves = sorted(jax.tree.leaves(tree), key=lambda x: -x.ndim)
    return tuple(np.asarray(x) for x in leaves)


def tree_of(like, weights):
    leaves, structure = jax.tree.flatten(like)
    by_rank = {w.ndim: jnp.asarray(w) for w in weights}
    return jax.tree.unflatten(structure, [by_rank[x.ndim] for x in leaves])


def plain_loop(data, params, sampling, uplink, downlink):
    """FedAvg with one client after the other; returns parameters and losses."""
    root = root_key(SEED)
    weights = leaves_of(params)
    states = {c: uplink.init(params) for c in range(CLIENTS)}
    encode, decode = jax.jit(uplink.encode), jax.jit(uplink.decode)
    for number in range(ROUNDS):
        keys, _ = keys_of(root, number, 0)
        message, _ = downlink.encode(tree_of(params, weights), (), keys)
        view = downlink.decode(message, params, keys.shared)
        total, examples = [np.zeros_like(w) for w in weights], 0
        for client in sampling(SEED, number, data.sizes, COHORT):
            rows = slice(data.offsets[client], data.offsets[client + 1])
            _, keys = keys_of(root, number, int(client))
            start = leaves_of(view)
            columns = (data.columns[name][rows] for name in ("features", "labels"))
            key = jax.random.fold_in(keys.private, LOCAL)
            trained = numpy_training(start, *columns, key)
            update = [t - s for t, s in zip(trained, start, strict=True)]
            keys = keys.fold(UPLINK)
            message, states[client] = encode(
                tree_of(params, update), states[client], keys
            )
            decoded = leaves_of(decode(message, params, keys.shared))
            size = rows.stop - rows.start
            for t, d in zip(total, decoded, strict=True):
                t += size * d
            examples += size
        weights = tuple(w + t / examples for w, t in zip(weights, total, strict=True))
    return weights


@pytest.fixture(scope="module")
def set_up():
    model = registry.build("model", "logistic", Task((WIDTH,), CLASSES))
    params = model.init(jax.random.key(1))
    return ragged_data(), model, params, registry.build("sampling", "uniform")


@pytest.fixture(scope="module")
def truth(set_up):
    """The loop's answer for each pair of compressors, computed once."""
    data, _, params, sampling = set_up
    known = {}

    def answer(uplink, downlink):
        if (uplink, downlink) not in known:
            pair = compress.parse(uplink), compress.parse(downlink)
            known[uplink, downlink] = plain_loop(data, params, sampling, *pair)
        return known[uplink, downlink]

    return answer


@pytest.mark.parametrize(("lanes", "devices"), [(1, 1), (4, 2)])
@pytest.mark.parametrize(
    ("uplink", "downlink"),
    [
        ("identity", "identity"),
        pytest.param(
            "hadamard | uniform(bits=4)",
            "hadamard | uniform(bits=8)",
            marks=pytest.mark.slow,
        ),
        ("error_feedback(top_k(0.2) | qsgd(bits=4))", "cast(bfloat16)"),
    ],
)
def test_engine_equals_plain_loops(set_up, truth, lanes, devices, uplink, downlink):
    data, model, params, sampling = set_up
    sgd = f"sgd(lr={LR}, batch={BATCH}, epochs={EPOCHS})"
    local = registry.build("local", sgd, model)
    algorithm = algorithms.fedavg(setup(local, uplink=uplink, downlink=downlink))
    simulator = Simulator(
        algorithm,
        data,
        cohort=COHORT,
        seed=SEED,
        sampling=sampling,
        lanes=lanes,
        devices=devices,
    )
    state, _ = simulator.advance(simulator.start(params), ROUNDS)
    found = leaves_of(algorithm.network(state.server)[1])
    for ours, plain in zip(found, truth(uplink, downlink), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
        assert np.abs(plain).max() > 0.05
