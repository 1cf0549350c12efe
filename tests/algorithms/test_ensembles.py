"""FedDF and Fed-ET against plain loops, and where they are FedAvg."""

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
from fedjax_compress.typing import LocalUpdate, Population, Task, Trained

SIZES = (5, 1, 7, 3)
WIDTH, CLASSES = 4, 3
TASK = Task((WIDTH,), CLASSES)
FIRST, OTHER, LARGE = "mlp(hidden=(6,))", "mlp(hidden=(4, 6))", "mlp(hidden=(9, 6))"
LAST = "output/kernel", "output/bias"
STEP = "sgd(lr=0.4, batch=99)"
"""One step on all public rows."""


@functools.cache
def data():
    rng = np.random.default_rng(5)
    owner = np.repeat(np.arange(len(SIZES)), SIZES).astype(np.int32)
    features = rng.normal(size=(len(owner), WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, len(owner)).astype(np.int32)
    return labelled(features, labels, owner, len(SIZES))


@functools.cache
def public(rows=8):
    rng = np.random.default_rng(6)
    return {"features": rng.normal(size=(rows, WIDTH)).astype(np.float32)}


@functools.cache
def model(text):
    return registry.build("model", text, TASK)


def algorithm(
    name, *given, links=(), of=None, learns="sgd(lr=0.3, batch=99)", server="fedavg",
    **options,
):  # fmt: skip
    parts = setup(
        local(learns, model(FIRST)), "mean", server, *links,
        population=Population(TASK, len(SIZES), max(SIZES)),
        public=public() if of is None else of,
    )  # fmt: skip
    return registry.entries("algorithm")[name].factory(parts, *given, **options)


def played(made, rounds=2, cohort=4, **options):
    sampling = registry.build("sampling", "uniform")
    simulator = Simulator(made, data(), cohort=cohort, sampling=sampling, **options)
    state = simulator.start(model(FIRST).init(jax.random.key(1)))
    start = jax.tree.map(np.asarray, state.server)
    state, records = simulator.advance(state, rounds)
    return start, jax.device_get(state.server), records


# The paper's loops, in the open: no vmap, no engine, layers written out.


def logits_of(p, x):
    for name in sorted(p):
        if name != "output":
            layer = p[name]
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x @ p["output"]["kernel"] + p["output"]["bias"][None]


def cross_entropy(z, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1)[:, 0].mean()


def moved(p, loss, lr):
    return jax.tree.map(lambda a, g: a - lr * g, p, jax.grad(loss)(p))


def mean(trees, weights):
    total = sum(weights)
    return jax.tree.map(
        lambda *x: sum(w / total * a for w, a in zip(weights, x, strict=True)), *trees
    )


def rows_of(client):
    offsets = np.asarray(data().offsets)
    mine = slice(offsets[client], offsets[client + 1])
    return tuple(np.asarray(data().columns[n])[mine] for n in ("features", "labels"))


def trained(groups, of):
    """What each client sends after one step on all of its rows."""
    sent = []
    for k in range(len(SIZES)):
        x, y = rows_of(k)

        def loss(p, x=x, y=y):
            return cross_entropy(logits_of(p, x), y)

        sent.append(moved(groups[of[k]], loss, 0.3))
    return sent


def averaged(sent, of, number):
    members = [[k for k in range(len(SIZES)) if of[k] == u] for u in range(number)]
    return [mean([sent[k] for k in m], [SIZES[k] for k in m]) for m in members]


def fed_df_by_loops(groups, of, rounds):
    x = public()["features"]
    for _ in range(rounds):
        sent = trained(groups, of)
        target = sum(logits_of(p, x) for p in sent) / len(sent)
        p = jax.nn.softmax(target)

        def loss(w, p=p):
            q = jax.nn.log_softmax(logits_of(w, x))
            return (p * (jnp.log(p) - q)).sum(1).mean()

        groups = [moved(w, loss, 0.4) for w in averaged(sent, of, len(groups))]
    return groups


def variance(z):
    centred = z - z.mean(1, keepdims=True)
    return (centred**2).mean(1)


def fed_et_by_loops(groups, large, of, rounds, diversity):
    x = public()["features"]
    for _ in range(rounds):
        sent = trained(groups, of)
        groups = averaged(sent, of, len(groups))
        share = mean([w["output"] for w in sent], SIZES)
        z = [np.asarray(logits_of(p, x)) for p in sent]
        labels, others, differs = [], [], []
        for i in range(len(x)):
            a = np.array([variance(one)[i] for one in z])
            s = sum(a[k] * z[k][i] for k in range(len(z))) / a.sum()
            y = int(np.argmax(s))
            d = [k for k in range(len(z)) if int(np.argmax(z[k][i])) != y]
            other = np.zeros(CLASSES, np.float32)
            if d:
                other = sum(a[k] * z[k][i] for k in d) / sum(a[k] for k in d)
            labels.append(y)
            others.append(other)
            differs.append(bool(d))
        p = jax.nn.softmax(jnp.asarray(np.stack(others), jnp.float32))
        some, y = jnp.asarray(differs, jnp.float32), jnp.asarray(labels)

        def loss(w, p=p, some=some, y=y):
            q = logits_of(w, x)
            kl = (p * (jnp.log(p) - jax.nn.log_softmax(q))).sum(1)
            return cross_entropy(q, y) + diversity * (some * kl).mean()

        large = moved(large | {"output": share}, loss, 0.4)
        groups = [w | {"output": large["output"]} for w in groups]
    return groups, large


def group_of(of=(), kinds=2):
    return list(dealt(of, kinds, len(SIZES))(0, 0, np.arange(len(SIZES))))


def close(found, wanted):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6)


def test_fed_df_is_the_papers_loop():
    start, end, _ = played(algorithm("fed_df", others=(OTHER,), student=STEP))
    of = group_of()
    assert sorted(of) == [0, 0, 1, 1]
    close(list(end.groups), fed_df_by_loops(list(start.groups), of, 2))


def test_fed_et_is_the_papers_loop():
    options = {"others": (OTHER,), "shared": ("output",), "student": STEP}
    made = algorithm("fed_et", LARGE, diversity=0.5, **options)
    start, end, _ = played(made)
    groups, large = fed_et_by_loops(
        list(start.groups), start.own, group_of(), 2, diversity=0.5
    )
    close(list(end.groups), groups)
    close(end.own, large)


@pytest.mark.parametrize("name", ["fed_df", "fed_et"])
@pytest.mark.parametrize("link", ["identity", "error_feedback(top_k(0.3))"])
def test_without_a_student_it_is_fedavg(name, link):
    """One group; states of both links are kept, by client and server."""
    given = (LARGE,) if name == "fed_et" else ()
    options = {"links": (link, link), "server": "fedavgm(momentum=0.5)"}
    made = algorithm(name, *given, student=None, **options)
    _, end, records = played(made, 3, cohort=3)
    _, plain, lines = played(algorithm_of_fedavg(**options), 3, cohort=3)
    close(end.groups[0], plain.params)
    for ours, theirs in zip(records, lines, strict=True):
        assert ours["bytes_up"] == theirs["bytes_up"]
        assert ours["bytes_down"] == theirs["bytes_down"]


def algorithm_of_fedavg(links, server):
    parts = setup(local("sgd(lr=0.3, batch=99)", model(FIRST)), "mean", server, *links)
    return registry.build("algorithm", "fedavg", parts)


def test_a_single_client_teaches_nothing_that_is_not_known():
    """Its network is the mean, so KL is 0 and so is its gradient."""
    made = algorithm("fed_df", student="sgd(lr=0.5, steps=4, batch=4)")
    _, taught, records = played(made, 1, cohort=1)
    _, plain, _ = played(algorithm("fed_df", student=None), 1, cohort=1)
    close(taught.groups, plain.groups)
    assert abs(records[0]["distillation_loss"]) < 1e-6


def test_each_group_costs_the_bytes_of_its_own_network():
    made = algorithm("fed_et", LARGE, others=(OTHER,), student=STEP)
    _, _, records = played(made, 1)
    counts = [sum(x.size for x in jax.tree.leaves(model(t).init(jax.random.key(0))))
              for t in (FIRST, OTHER)]  # fmt: skip
    wanted = 2 * (4 * sum(counts) + 2 * wire.HEADER_BYTES)
    assert records[0]["bytes_up"] == records[0]["bytes_down"] == wanted


def test_a_group_that_stays_away_stays_as_it_is():
    made = algorithm("fed_df", others=(OTHER,), shares=(3, 1), student=None)
    away = group_of((3, 1)).index(1)
    sampling = lambda seed, number, sizes, cohort: np.delete(np.arange(4), away)  # noqa: E731
    simulator = Simulator(made, data(), cohort=3, sampling=sampling)
    state = simulator.start(model(FIRST).init(jax.random.key(1)))
    before = jax.tree.map(np.asarray, state.server.groups)
    state, _ = simulator.advance(state, 1)
    assert all(
        np.array_equal(x, y)
        for x, y in zip(
            jax.tree.leaves(before[1]), jax.tree.leaves(state.server.groups[1]),
            strict=True,
        )
    )  # fmt: skip
    assert not np.array_equal(
        before[0]["output"]["kernel"], state.server.groups[0]["output"]["kernel"]
    )


@pytest.mark.parametrize(
    ("shares", "clients", "wanted"),
    [
        ((), 7, (3, 2, 2)),
        ((1.0, 1.0, 2.0), 8, (2, 2, 4)),
        ((1.0, 98.0, 1.0), 5, (1, 3, 1)),
        ((1.0, 1.0, 1.0), 3, (1, 1, 1)),
    ],
)
def test_groups_are_as_large_as_their_shares(shares, clients, wanted):
    of = dealt(shares, 3, clients)
    groups = of(11, 0, np.arange(clients))
    assert sorted(np.bincount(groups, minlength=3)) == sorted(wanted)
    assert np.array_equal(groups, of(11, 5, np.arange(clients)))  # for good


def test_all_clients_of_a_single_seed_are_not_in_order():
    groups = dealt((), 2, 40)(3, 0, np.arange(40))
    assert list(groups) != sorted(groups)


def test_rows_of_a_round_are_drawn_anew(monkeypatch):
    """Four of eight, without one twice: a student tells the sum of what it is given."""

    def run(problem, shard, context):
        told = {"loss": shard.columns["features"][:, 0].sum(), "examples": jnp.ones(())}
        return Trained(tree.zeros_like(problem.start), problem.memory, told)

    looks = lambda *given: LocalUpdate(run)  # noqa: E731
    monkeypatch.setattr("fedjax_compress.algorithms._fed_df.student_of", looks)
    _, _, records = played(algorithm("fed_df", rows=4), 6)
    column = public()["features"][:, 0]
    possible = [sum(some) for some in itertools.combinations(column.tolist(), 4)]
    found = [record["distillation_loss"] for record in records]
    for one in found:
        assert np.abs(np.subtract(possible, one)).min() < 1e-5
    # Each pair of rounds agrees by chance one time in seventy: all six once in 1e9.
    assert len(np.unique(np.round(found, 4))) > 1


BAD = [
    (("fed_df",), {"of": {}}, "needs rows that no client has"),
    (("fed_df",), {"shares": (1.0,), "others": (OTHER,)}, "shares must be 2 numbers"),
    (("fed_df",), {"rows": 9}, r"rows must be from 0 \(all\) to 8, not 9"),
    (("fed_df",), {"others": (OTHER,) * 4}, "4 clients cannot be in 5 groups"),
    (("fed_et", LARGE), {"diversity": -1.0}, "diversity must not be negative"),
    (
        ("fed_et", LARGE),
        {"shared": ("outpt",)},
        "in the server's network no parameter is labelled 'outpt'",
    ),
    (
        ("fed_et", "mlp(hidden=(9, 5))"),
        {"shared": ("output/kernel",)},
        r"must have one shape in all networks, not \[5, 3\], \[6, 3\]",
    ),
]


@pytest.mark.parametrize(("given", "options", "words"), BAD)
def test_what_cannot_be_is_said_in_a_line(given, options, words):
    with pytest.raises(InputError, match=words) as refused:
        algorithm(*given, **options)
    assert "\n" not in str(refused.value)


def test_the_servers_network_begins_with_values_of_its_own():
    """From the seed, and not those of any group."""
    starts = [
        played(algorithm("fed_et", FIRST, others=(FIRST,)), 1)[0] for _ in range(2)
    ]
    close(starts[0], starts[1])
    kernels = [
        starts[0].own, *starts[0].groups
    ]  # fmt: skip
    first = [np.asarray(p["dense_1"]["kernel"]) for p in kernels]
    assert not any(np.allclose(first[i], first[j]) for i in range(3) for j in range(i))
