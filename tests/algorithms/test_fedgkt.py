"""FedGKT against plain loops over clients and batches; what travels, to the digit."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import local, setup
from three_edges import (
    BATCH,
    CLASSES,
    EPOCHS,
    HIDDEN,
    LR,
    NET,
    SIZES,
    TASK,
    UNIFORM,
    algorithm,
    data,
    edge,
    params,
    rows_of,
)

from fedjax_compress import compress, registry, tree, wire
from fedjax_compress.algorithms.shared.row_messages import row_link
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Keys, LocalUpdate, Population, Task, Trained


def played(made, rounds, **options):
    simulator = Simulator(made, data(), cohort=len(SIZES), sampling=UNIFORM, **options)
    state, records = simulator.start(params()), []
    for _ in range(rounds):
        state, fresh = simulator.advance(state, 1)
        records += fresh
    return simulator, state, records


# The paper's two loops, in the open: no vmap, no engine, layers written out.


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"][None]


def features_of(p, x):
    return jax.nn.relu(dense(x, p["dense_1"]))


def logits_of(p, h):
    return dense(jax.nn.relu(dense(h, p["dense_2"])), p["output"])


def server_of(p, h):
    return dense(jax.nn.relu(dense(h, p["dense_1"])), p["output"])


def cross_entropy(z, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1)[:, 0].mean()


def kd(teacher, student, t=3.0):
    p = jax.nn.softmax(teacher / t) + 1e-7
    return t * t * (p * (jnp.log(p) - jax.nn.log_softmax(student / t))).sum(1).mean()


def moved(p, slope, lr):
    return jax.tree.map(lambda a, g: a - lr * g, p, slope)


def by_loops(server, rounds, distils, alpha=0.7):
    """Server, edge networks and the server's logits by row, after some rounds.

    A client takes one step on all its rows.
    """
    edges = [params()] * len(SIZES)
    logits = [None] * len(SIZES)
    for _ in range(rounds):
        sent = []
        for k in range(len(SIZES)):
            x, y = rows_of(k)

            def objective(p, x=x, y=y, teacher=logits[k]):
                z = logits_of(p, features_of(p, x))
                found = cross_entropy(z, y)
                return found if teacher is None else found + alpha * kd(teacher, z)

            edges[k] = moved(edges[k], jax.grad(objective)(edges[k]), 0.3)
            h = features_of(edges[k], x)
            sent.append((h, logits_of(edges[k], h), y))
        logits = [np.zeros((n, CLASSES), np.float32) for n in SIZES]
        for _ in range(EPOCHS):
            for k in range(len(SIZES)):
                h, z, y = sent[k]
                for start in range(0, SIZES[k], BATCH):
                    part = slice(start, min(start + BATCH, SIZES[k]))

                    def loss(p, h=h[part], z=z[part], y=y[part]):
                        made = server_of(p, h)
                        found = cross_entropy(made, y)
                        return (
                            found
                            if distils == "clients"
                            else (kd(z, made) + alpha * found)
                        )

                    logits[k][part] = server_of(server, h[part])
                    server = moved(server, jax.grad(loss)(server), LR)
    return server, edges, logits


@pytest.mark.parametrize("distils", ["clients", "both"])
def test_it_is_the_paper_s_two_loops(distils):
    made = algorithm("sgd(lr=0.3, batch=100, epochs=1)", distils=distils)
    simulator, state, _ = played(made, 3)
    first = simulator.start(params()).server.params
    server, edges, logits = by_loops(first, 3, distils)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    jax.tree.map(close, state.server.params, server)
    kept = simulator.client_states(state, np.arange(len(SIZES)))
    for k, wanted in enumerate(edges):
        mine = jax.tree.map(lambda x, k=k: x[k], kept[1])
        jax.tree.map(close, mine, wanted)
        close(state.server.logits[k, : SIZES[k]], logits[k])
        assert not np.any(state.server.logits[k, SIZES[k] :])
    assert state.server.taught.all()


def looking():
    """A local update that moves nothing, and tells how far the teacher of its rows is
    from what the server's network makes of them."""

    def run(problem, shard, context):
        index = jnp.arange(max(SIZES))
        batch = shard.take(index, index < shard.size)
        x, teacher = batch.columns["features"], batch.columns["teacher"]
        net = registry.build("model", NET, Task((HIDDEN,), CLASSES))
        server = net.init(algorithm_key())
        wanted = server_of(server, features_of(problem.start, x))
        gap = jnp.abs(wanted - teacher).max(1)
        taught = batch.columns["taught"].any()
        told = {
            "loss": jnp.zeros(()),
            "examples": shard.size.astype(jnp.float32),
            "gap": jnp.where(taught, jnp.max(gap * batch.mask), -1.0),
        }
        return Trained(tree.zeros_like(problem.start), problem.memory, told)

    return LocalUpdate(run, model=edge())


def algorithm_key():
    """The key with which the engine has the server's network made, for seed 0."""
    return jax.random.fold_in(root_key(0), 2**31 - 1)


@pytest.mark.parametrize("matched", [True, False])
def test_each_row_is_taught_by_its_own_logits(matched):
    """The server stands still, so what it makes of a row is known."""
    parts = setup(
        looking(), "mean", "fedavg(1e-30)",
        population=Population(TASK, len(SIZES), max(SIZES)),
    )  # fmt: skip
    factory = registry.entries("algorithm")["fedgkt"].factory
    made = factory(parts, NET, None, epochs=1, batch=BATCH, matched=matched)
    _, _, records = played(made, 3, lanes=1)
    assert records[0]["train_gap"] == -1
    for record in records[1:]:
        assert (record["train_gap"] < 1e-5) == matched


def test_logits_of_rows_stay_theirs_where_clients_shuffle():
    """Training takes rows in another order in each round; a slow server tells them."""
    made = algorithm("sgd(lr=0.3, batch=2, epochs=2)", server="fedavg(1e-30)")
    simulator, state, _ = played(made, 2)
    kept = simulator.client_states(state, np.arange(len(SIZES)))[1]
    for k, n in enumerate(SIZES):
        mine = jax.tree.map(lambda a, k=k: a[k], kept)
        wanted = server_of(state.server.params, features_of(mine, rows_of(k)[0]))
        np.testing.assert_allclose(
            state.server.logits[k, :n], wanted, rtol=1e-5, atol=1e-5
        )


def test_without_distillation_clients_are_alone():
    """alpha = 0 and the server's switch off: each client's own training, for ever."""
    simulator, state, _ = played(algorithm("sgd(lr=0.3, batch=9)", alpha=0.0), 3)
    mine = simulator.client_states(state, np.arange(len(SIZES)))[1]
    for k in range(len(SIZES)):
        x, y = rows_of(k)
        p = params()
        for _ in range(3):
            slope = jax.grad(
                lambda p, x=x, y=y: cross_entropy(logits_of(p, features_of(p, x)), y)
            )(p)
            p = moved(p, slope, 0.3)
        jax.tree.map(
            lambda a, b, k=k: np.testing.assert_allclose(a[k], b, rtol=1e-4, atol=1e-5),
            mine, p,
        )  # fmt: skip


def test_bytes_of_each_row_to_the_digit():
    """Up: features and logits at 32 bits, a label of 2 bits the first time; down, from
    the second round on, logits. Rows are counted in 32 bits, messages have 16
    bytes, and a bit down says whether the server has the labels."""
    _, _, records = played(algorithm(), 3)
    row = 32 * (HIDDEN + CLASSES)

    def bytes_of(bits):
        return 16 + -(-bits // 8)

    first = sum(bytes_of(64 + n * (row + 2)) for n in SIZES)
    later = sum(bytes_of(64 + n * row) for n in SIZES)
    assert [r["bytes_up"] for r in records] == [first, later, later]
    down = sum(bytes_of(33 + n * 32 * CLASSES) for n in SIZES)
    nothing = sum(bytes_of(33) for _ in SIZES)
    assert [r["bytes_down"] for r in records] == [nothing, down, down]


def test_a_row_of_cifar10_costs_what_is_published():
    """64 KiB of features and 40 bytes of logits."""
    model = registry.build("model", "resnet8", Task((32, 32, 3), 10))
    assert 4 * np.prod(model.halves.shape) == 65_536
    link = compress.parse("identity")
    like = {"h": jnp.zeros(model.halves.shape), "z": jnp.zeros(10)}
    rows = jax.tree.map(lambda x: jnp.zeros((3, *x.shape)), like)
    key = jax.random.key(0)
    message = row_link(link, "uplink").encode(rows, jnp.int32(2), Keys(key, key))
    assert int(wire.size(message)) == 16 + 4 + 2 * (65_536 + 40)
    assert len(wire.pack(message)) == int(wire.size(message))


@pytest.mark.parametrize(
    "link",
    [
        "uniform(bits=8)",
        "cast",
        "on_leaves(top_k(0.1))",
        "on_leaves(hadamard | uniform(bits=4))",
    ],
)
def test_links_work_on_each_row(link):
    _, state, records = played(algorithm(links=(link, "cast")), 2)
    assert np.isfinite(records[-1]["train_loss"])
    assert tree.all_finite(state.server)
    assert records[-1]["bytes_up"] < 16 * 3 + sum(SIZES) * 4 * (HIDDEN + CLASSES) + 24


def test_lanes_devices_and_cohorts_change_nothing_but_rounding():
    one = played(algorithm(), 2, lanes=1)[1].server
    three = played(algorithm(), 2, lanes=3)[1].server
    two = played(algorithm(), 2, devices=2)[1].server
    for other in (three, two):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            (one.params, one.logits), (other.params, other.logits),
        )  # fmt: skip


def test_whoever_was_not_there_keeps_the_logits_that_it_had():
    made = algorithm()
    simulator = Simulator(made, data(), cohort=1, sampling=UNIFORM)
    state = simulator.start(params())
    seen = set()
    for number in range(6):
        (client,) = UNIFORM(0, number, np.asarray(SIZES), 1).tolist()
        before = np.asarray(state.server.logits)
        state, (record,) = simulator.advance(state, 1)
        assert (record["bytes_down"] > 21) == (client in seen)
        seen.add(client)
        after = np.asarray(state.server.logits)
        changed = {k for k in range(3) if not np.array_equal(before[k], after[k])}
        assert changed == {client}
        assert set(np.flatnonzero(state.server.taught)) == seen


def test_refusals():
    parts = setup(local("sgd", registry.build("model", "logistic", TASK)))
    factory = registry.entries("algorithm")["fedgkt"].factory
    with pytest.raises(InputError, match="in halves, such as resnet8"):
        factory(parts._replace(population=Population(TASK, 3, 7)))
    with pytest.raises(InputError, match="number of clients and of their rows"):
        factory(setup(local("sgd", edge())))
    for options, words in [
        ({"epochs": 0}, "epochs and batch must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"alpha": -1.0}, "alpha at least 0"),
    ]:
        with pytest.raises(InputError, match=words):
            algorithm(**options)
    made = algorithm(links=("error_feedback(top_k(0.5))",))
    with pytest.raises(InputError, match=r"uplink: rows are sent.*error_feedback out"):
        made.init(jax.random.key(0), params())
