"""FedMD: digest and revisit by plain loops; rows, bytes, who keeps what."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, local, setup

from fedjax_compress import registry, tree, wire
from fedjax_compress.algorithms.shared.groups import dealt
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Population, Task

SIZES = (5, 2, 7, 3)
WIDTH, CLASSES, ROWS = 4, 3, 8
TASK = Task((WIDTH,), CLASSES)
FIRST, OTHER = "mlp(hidden=(6,))", "mlp(hidden=(4, 6))"
STEP = "sgd(lr=0.05, batch=99)"


@functools.cache
def data():
    rng = np.random.default_rng(5)
    owner = np.repeat(np.arange(len(SIZES)), SIZES).astype(np.int32)
    features = rng.normal(size=(len(owner), WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, len(owner)).astype(np.int32)
    return labelled(features, labels, owner, len(SIZES))


@functools.cache
def public():
    rng = np.random.default_rng(6)
    return {
        "features": rng.normal(size=(ROWS, WIDTH)).astype(np.float32),
        "labels": rng.integers(0, CLASSES, ROWS).astype(np.int32),
    }


@functools.cache
def model(text):
    return registry.build("model", text, TASK)


def algorithm(links=(), learns="sgd(lr=0.3, batch=99)", given=None, **options):
    parts = setup(
        local(learns, model(FIRST)), "mean", "fedavg", *links,
        population=Population(TASK, len(SIZES), max(SIZES)),
        public=public() if given is None else given,
    )  # fmt: skip
    options = {"others": (OTHER,), "digest": STEP, "rows": 0} | options
    return registry.entries("algorithm")["fed_md"].factory(parts, **options)


def played(made, rounds, sampling=lambda *given: np.arange(len(SIZES))):
    cohort = len(sampling())
    simulator = Simulator(made, data(), cohort=cohort, sampling=sampling)
    state, found = simulator.start(model(FIRST).init(jax.random.key(1))), []
    for _ in range(rounds):
        state, records = simulator.advance(state, 1)
        states = simulator.client_states(state, np.arange(len(SIZES)))
        found.append((jax.device_get(state.server), states, records[0]))
    return found


def network_of(states, k):
    """The parameters of a client's network, cut out of its vector by hand."""
    shape = jax.eval_shape(
        model((FIRST, OTHER)[int(states[1].group[k])]).init, jax.random.key(0)
    )
    leaves, structure = jax.tree.flatten(shape)
    ends = np.cumsum([x.size for x in leaves])
    parts = np.split(np.asarray(states[1].params[k])[: ends[-1]], ends[:-1])
    parts = [p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, parts)


def logits_of(p, x):
    for name in sorted(p):
        if name != "output":
            layer = p[name]
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x @ p["output"]["kernel"] + p["output"]["bias"][None]


def moved(p, loss, lr):
    return jax.tree.map(lambda a, g: a - lr * g, p, jax.grad(loss)(p))


def close(found, wanted):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6)


def test_a_round_is_the_papers():
    """Consensus of what all have sent; then a step towards it, then one at home."""
    (server, first, _), (_, second, _) = played(algorithm(), 2)
    x = public()["features"]
    nets = [network_of(first, k) for k in range(len(SIZES))]
    consensus = sum(logits_of(p, x) for p in nets) / len(nets)
    close(server.logits, consensus)
    offsets = np.asarray(data().offsets)
    for k, p in enumerate(nets):
        p = moved(p, lambda w: jnp.abs(logits_of(w, x) - consensus).mean(), 0.05)
        mine = slice(offsets[k], offsets[k + 1])
        own = np.asarray(data().columns["features"])[mine]
        y = np.asarray(data().columns["labels"])[mine]

        def loss(w, own=own, y=y):
            z = jax.nn.log_softmax(logits_of(w, own))
            return -jnp.take_along_axis(z, y[:, None], 1)[:, 0].mean()

        close(network_of(second, k), moved(p, loss, 0.3))


def test_each_client_is_in_a_group_and_begins_anew():
    _, states, _ = played(algorithm(learns="sgd(lr=1e-9)"), 1)[0]
    of = dealt((), 2, len(SIZES))(0, 0, np.arange(len(SIZES)))
    assert np.array_equal(states[1].group, of)
    vectors = np.asarray(states[1].params)
    assert not any(
        np.allclose(vectors[i], vectors[j]) for i in range(4) for j in range(i)
    )
    small = tree.count(model(FIRST).init(jax.random.key(0)))
    largest = tree.count(model(OTHER).init(jax.random.key(0)))
    assert vectors.shape[1] == max(small, largest)


@pytest.mark.parametrize("rows", [0, 3])
def test_one_client_alone_has_nothing_to_digest(rows):
    """The consensus is what it has said itself, of the same rows: 64 bits name them.

    Of other rows its logits differ by some tenths.
    """
    still = {"learns": "sgd(lr=1e-9)", "digest": "sgd(lr=1e-9, batch=2)"}
    made = algorithm(others=(), rows=rows, **still)
    (_, _, one), (_, _, two) = played(made, 2, lambda *given: np.array([2]))
    assert one["train_digest_loss"] == 0.0
    assert two["train_digest_loss"] < 1e-5


def test_what_travels():
    """rows · classes · 32 bits; 64 for what draws them and 32 that say whether."""
    (_, _, one), (_, _, two) = played(algorithm(rows=6), 2)
    sent = 4 * 6 * CLASSES
    head = wire.HEADER_BYTES
    assert one["bytes_up"] == two["bytes_up"] == 4 * (sent + head)
    assert one["bytes_down"] == 4 * (4 + head)
    assert two["bytes_down"] == 4 * (sent + 8 + 4 + head)


def test_links_work_on_the_array_of_logits():
    """4 bit: half a byte a logit, and a scale."""
    links = ("uniform(bits=4)", "identity")
    _, (server, states, two) = played(algorithm(links), 2)
    assert two["bytes_up"] < 4 * (ROWS * CLASSES * 4 / 8 + 12 + wire.HEADER_BYTES)
    x = public()["features"]
    exact = np.stack([logits_of(network_of(states, k), x) for k in range(4)]).mean(0)
    spread = np.abs(np.asarray(server.logits) - exact).max()
    assert 0 < spread < 0.2


def test_pretraining_comes_before_the_first_round_only():
    """Ten steps on public labels, at home nothing: the loss there has fallen once."""
    options = {"learns": "sgd(lr=1e-9)", "digest": "sgd(lr=1e-9)"}
    fresh = played(algorithm(**options), 1)[0][1]
    made = algorithm(pretrain="sgd(lr=0.5, batch=8, epochs=10)", **options)
    (_, first, _), (_, second, _) = played(made, 2)
    x, y = public()["features"], public()["labels"]

    def losses(states):
        found = []
        for k in range(len(SIZES)):
            z = jax.nn.log_softmax(logits_of(network_of(states, k), x))
            found.append(-np.asarray(z)[np.arange(ROWS), y].mean())
        return np.array(found)

    assert (losses(first) < losses(fresh) - 0.02).all()
    np.testing.assert_allclose(second[1].params, first[1].params, atol=1e-5)


def test_who_stays_away_keeps_its_network():
    by_turns = lambda seed=0, number=0, *given: np.array([number % 4, 3 - number % 4])  # noqa: E731
    found = played(algorithm(), 3, by_turns)
    for (_, before, _), (_, after, _) in itertools.pairwise(found):
        same = [
            np.array_equal(x, y)
            for x, y in zip(before[1].params, after[1].params, strict=True)
        ]
        assert sum(same) == 2


BAD = [
    ({"given": {}}, "needs rows that no client has"),
    ({"links": ("error_feedback(top_k(0.1))",)}, "logits are of other rows each round"),
    (
        {"pretrain": STEP, "given": {"features": np.zeros((2, WIDTH), np.float32)}},
        "pretrain needs public rows with labels",
    ),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_what_cannot_be_is_said_in_a_line(options, words):
    with pytest.raises(InputError, match=words) as refused:
        played(algorithm(**options), 1)
    assert "\n" not in str(refused.value)
