"""Masks in a round: what stays, what moves, what travels, and gradients by hand."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounds import begun
from systems import client_told, updating

from fedjax_compress import prune, wire
from fedjax_compress.errors import InputError

HALF = (
    "sparsity=one_shot(0.5), pattern=unstructured, every=2, refine_until=100, "
    "outputs=true"
)
OWN = "times=own, computation=(1e-6, 2e-6), initial_rounds=0"


def out_of_use(server):
    """Masks of what is pruned, by leaf in order."""
    return [~np.asarray(m) for m in jax.tree.leaves(server.mask)]


def weights(server):
    return [server.params["dense_1"]["kernel"], server.params["output"]["kernel"]]


@pytest.mark.parametrize("server", ["fedavgm(momentum=0.9)", "optax(adamw, lr=0.1)"])
def test_no_optimizer_moves_what_is_out_of_use(bench, server):
    """Nor local momentum and weight decay."""
    algorithm = bench.build(
        f"federated_pruning({HALF})",
        local="sgd(lr=0.5, momentum=0.9, weight_decay=0.1, steps=3, batch=6)",
        server=server,
    )
    servers, _ = bench.rounds(algorithm, 5)
    for before, after in itertools.pairwise(servers):
        for pruned, w, v in zip(
            out_of_use(before), weights(before), weights(after), strict=True
        ):
            assert pruned.sum() == pruned.size // 2
            assert np.array_equal(w[pruned], v[pruned])
            assert np.any(w[~pruned] != v[~pruned])


def test_scores_of_gradients_bring_nothing_back_and_those_of_weights_do(bench):
    """Weights shrink by decay below what went out of use before, which then returns."""
    local = "sgd(lr=0.3, weight_decay=1.0, steps=4, batch=6)"
    gone = {}
    for score in ("gradient", "weight"):
        text = (
            f"federated_pruning(sparsity=one_shot(0.5, at=2), score={score}, every=2, "
            "pattern=unstructured, refine_until=100, allocation=threshold, "
            "outputs=true)"
        )
        algorithm = bench.build(text, local=local)
        servers, _ = bench.rounds(algorithm, 8)
        masks = [np.concatenate([m.ravel() for m in out_of_use(s)]) for s in servers]
        assert not masks[1].any()
        first = masks[2]
        assert first.sum() == 24
        if score == "gradient":
            moved = [
                np.abs(b - a).ravel()
                for a, b in zip(*map(weights, servers[1:3]), strict=True)
            ]
            largest = np.argsort(-np.concatenate(moved), kind="stable")[:24]
            assert not first[largest].any()
        gone[score] = all(np.all(later[first]) for later in masks[2:])
        returns = sum(np.sum(a & ~b) for a, b in itertools.pairwise(masks))
        assert algorithm.observe(servers[-1])["recovered"] == returns
        assert (returns == 0) == gone[score]
    assert gone == {"gradient": True, "weight": False}


def test_gradients_are_not_scored_before_there_are_any(bench):
    with pytest.raises(InputError, match="before the first round"):
        bench.build("federated_pruning(sparsity=one_shot(0.5), score=gradient)")
    servers, _ = bench.rounds(bench.build("federated_pruning(score=gradient)"), 1)
    assert not any(m.any() for m in out_of_use(servers[0]))
    assert any(m.any() for m in out_of_use(servers[1]))


def test_the_layer_of_the_outputs_is_spared(bench):
    servers, _ = bench.rounds(bench.build("federated_pruning(pattern=row)"), 1)
    assert servers[1].mask["output"] == {"bias": None, "kernel": None}
    assert servers[1].mask["dense_1"]["kernel"].tolist().count(False) == 3


def test_further_layers_are_spared_by_their_labels(bench):
    text = "federated_pruning(pattern=row, outputs=true, spare={})"
    servers, _ = bench.rounds(bench.build(text.format("(dense_1,)")), 1)
    assert servers[1].mask["dense_1"] == {"bias": None, "kernel": None}
    assert not np.all(servers[1].mask["output"]["kernel"])
    for label, said in (("dense_2", "did you mean 'dense_1'"), ("kernel", "no weight")):
        with pytest.raises(InputError, match=said):
            bench.rounds(bench.build(text.format(f"({label},)")), 1)


def test_a_frozen_mask_stays_and_a_ramp_ends(bench):
    text = (
        "federated_pruning(sparsity=cubic(0.5, begin=0, end=4), pattern=unstructured, "
        "every=2, refine_until=0, outputs=true)"
    )
    servers, _ = bench.rounds(bench.build(text), 7)
    shares = [float(prune.density(s.mask, s.params).overall) for s in servers]
    assert shares[:2] == [1.0, 1.0]
    np.testing.assert_allclose(shares[2], 1 - 0.5 * (1 - 0.5**3), atol=0.02)
    np.testing.assert_allclose(shares[4:], 0.5, atol=0.02)
    assert servers[4].version == servers[7].version
    jax.tree.map(np.testing.assert_array_equal, servers[4].mask, servers[7].mask)


def test_only_what_is_in_use_travels_and_a_new_mask_once(bench):
    """3 of 6 rows of 5, 18 weights at the outputs, 9 biases; a count of 5 bits."""
    text = "federated_pruning(sparsity=one_shot(0.5), pattern=row, every=100)"
    servers, history = bench.rounds(bench.build(text), 2)
    for done in history:
        for sent in (done.message, *(report.payload for report in done.reports)):
            assert len(wire.pack(sent)) == 16 + 4 * (15 + 18 + 9) + 1
    first, then = (done.alone[0] for done in history)
    assert np.array_equal(
        jax.tree.leaves(first)[0], servers[0].mask["dense_1"]["kernel"]
    )
    assert not any(np.any(m) for m in jax.tree.leaves(then))
    assert 16 < len(wire.pack(then)) <= len(wire.pack(first)) <= 16 + 2


def test_each_new_mask_is_sent_in_the_round_after(bench):
    """Three steps of a ramp, a mask each; the server notes who has which."""
    text = (
        "federated_pruning(sparsity=iterative(0.5, steps=3, every=1), "
        "pattern=unstructured, every=1, refine_until=3)"
    )
    algorithm = bench.build(text)
    servers, history = bench.rounds(algorithm, 3)
    versions = [int(s.version) for s in servers]
    assert versions == sorted(set(versions))
    for server, done in zip(servers, history, strict=False):
        news = jax.tree.leaves(done.alone[0])[0]
        assert np.array_equal(news, server.mask["dense_1"]["kernel"])
        _, kept = done.kept[0].state
        jax.tree.map(np.testing.assert_array_equal, kept.mask, server.mask)
        assert int(done.kept[0].record) == int(server.version)


def test_a_mask_that_stays_is_not_sent_again(bench):
    """No step moves anything, so every refinement finds the same mask."""
    algorithm = bench.build(f"federated_pruning({HALF})", local="sgd(lr=1e-9, steps=1)")
    servers, _ = bench.rounds(algorithm, 4)
    assert {int(s.version) for s in servers} == {1}


def test_prunefl_gathers_the_gradients_of_what_is_out_of_use(bench):
    """One step of SGD: squares are rows * (lr * gradient at w m)^2, for all weights."""
    algorithm = bench.build(
        f"prunefl({OWN}, every=2)", local="sgd(lr=0.5, steps=1, batch=6)"
    )
    rng = np.random.default_rng(1)
    server = begun(algorithm, bench.params)
    mask = jax.tree.map(lambda m: rng.random(m.shape) < 0.5, server.mask)
    held = algorithm._replace(init=lambda key, p: server._replace(mask=mask))
    servers, history = bench.rounds(held, 1, clients=1)
    masked = prune.apply(mask, bench.params)
    grads = jax.jit(jax.grad(bench.loss))(masked)
    wanted = jax.tree.map(lambda g: 6 * (0.5 * np.asarray(g)) ** 2, grads)
    _, kept = history[0].kept[0].state
    in_use = prune.apply(mask, jax.tree.map(np.ones_like, bench.params))
    jax.tree.map(
        lambda g, w, u: np.testing.assert_allclose(
            g, w * (1 - u), rtol=1e-4, atol=1e-7
        ),
        kept.gathered, wanted, in_use,
    )  # fmt: skip
    found = servers[1].memory.squares  # of those in use: the others are not sent yet
    jax.tree.map(
        lambda g, w, u: np.testing.assert_allclose(g, w * u, rtol=1e-4, atol=1e-7),
        found, wanted, in_use,
    )  # fmt: skip


def test_prunefl_sends_squares_before_a_new_mask_and_then_brings_weights_back(bench):
    costly = "times=own, constant=0.5, computation=(0.1, 0.2), initial_rounds=0"
    algorithm = bench.build(f"prunefl({costly}, every=3, removable=0.9)")
    servers, history = bench.rounds(algorithm, 7)
    up = [len(wire.pack(done.reports[0].payload)) for done in history]
    shares = [float(prune.density(s.mask, s.params).overall) for s in servers]
    assert shares[:3] == [1.0] * 3
    assert shares[3] < 1
    assert up[3] < up[2]  # fewer in use
    assert up[5] > up[4] == up[3]  # squares of the others before the next mask
    seconds = [float(s.memory.seconds) for s in servers]
    whole = 0.5 + 30 * (0.1 + 1e-6) + 18 * (0.2 + 1e-6)
    np.testing.assert_allclose(np.diff(seconds)[:3], whole, rtol=1e-5)
    assert np.diff(seconds)[3] < whole


def test_the_model_that_is_evaluated_is_masked(bench):
    algorithm = bench.build(f"federated_pruning({HALF})")
    servers, _ = bench.rounds(algorithm, 1)
    _, shown = algorithm.network(servers[1])
    for pruned, w in zip(
        out_of_use(servers[1]),
        [shown["dense_1"]["kernel"], shown["output"]["kernel"]],
        strict=True,
    ):
        assert not np.any(np.asarray(w)[pruned])


def test_magnitude_pruning_is_the_mean_of_pruned_weights(bench):
    servers, history = bench.rounds(bench.build("magnitude_pruning(0.6)"), 1)
    each = []
    for report in history[0].reports:
        leaves = [np.asarray(f.symbols) for f in wire.fields(report.payload)]
        flat = np.concatenate([x.ravel() for x in leaves])
        assert (flat == 0).sum() == int(0.6 * 57)
        each.append(flat)
    after = np.concatenate([np.ravel(x) for x in jax.tree.leaves(servers[1].params)])
    np.testing.assert_allclose(after, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)


def test_lottery_tickets_start_again_from_the_beginning(bench):
    """Threshold 0: every client prunes what is below the 20 % quantile of its rest."""
    text = "lotteryfl(threshold=0.0, target=0.5)"
    algorithm = bench.build(text, local="sgd(lr=1e-6, steps=1, batch=6)")
    moved = jax.tree.map(lambda w: w + 1.0, bench.params)
    trained = algorithm._replace(
        init=lambda key, p: algorithm.init(key, p)._replace(params=moved)
    )
    _, history = bench.rounds(trained, 5)
    left = []
    for done in history:
        _, mask = done.kept[0].state
        jax.tree.map(np.testing.assert_array_equal, mask, done.kept[0].record)
        left.append(int(sum(m.sum() for m in jax.tree.leaves(mask))))
        payload = done.reports[0].payload
        sent = jax.tree.leaves(payload["weights"])[1]  # of the first kernel
        kept = np.asarray(mask["dense_1"]["kernel"])
        first = np.asarray(bench.params["dense_1"]["kernel"])[kept]
        if len(left) < 4:  # pruned in this round: from the initial weights
            np.testing.assert_allclose(
                np.ravel(sent)[: kept.sum()], first, atol=1e-4, rtol=1e-3
            )
    # By numpy's quantile, as in the authors' code: ceil(0.2 (n - 1)) of n are below.
    rest, expected = [np.arange(30.0), np.arange(18.0)], []
    while len(expected) < 5:
        if sum(r.size for r in rest) > 24:
            rest = [r[r >= np.percentile(r, 20)] for r in rest]
        expected.append(sum(r.size for r in rest))
    assert left == expected == [38, 30, 24, 24, 24]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("federated_pruning(sparsity=one_shot(1.0))", r"target must be in \[0, 1\)"),
        ("federated_pruning(every=0)", "every must be at least 1 round"),
        ("federated_pruning(pattern=colum)", "did you mean 'column'"),
        ("federated_pruning(momentum=1.0)", "momentum must be from 0 to below 1"),
        ("prunefl(times=own)", "needs computation"),
        ("prunefl(constant=3.0)", "has constants of its own"),
        ("prunefl(initial_every=0)", "initial_every must be at least 1"),
        ("prunefl(removable=2.0)", "removable must be from 0 to 1"),
        ("prunefl(max_density=0.0)", "max_density must be above 0"),
        ("magnitude_pruning(1.0)", "rate must be from 0 to below 1, not 1.0"),
        ("lotteryfl(prune_rate=0.0)", "prune_rate must be above 0"),
    ],
)
def test_refusals_are_one_line(bench, text, said):
    with pytest.raises(InputError, match=said) as caught:
        bench.build(text)
    assert "\n" not in caught.value.reason


def test_times_for_another_model_are_refused(bench):
    algorithm = bench.build("prunefl")
    with pytest.raises(InputError, match="times for 4 weight tensors, the model has 2"):
        begun(algorithm, bench.params)


def test_a_rotation_cannot_follow_a_mask(bench):
    with pytest.raises(InputError, match="elementwise"):
        bench.build("federated_pruning", uplink="hadamard | uniform(bits=4)")


def test_links_that_cannot_follow_a_mask_are_refused_before_training(bench):
    algorithm = bench.build(
        "prunefl(times=own, computation=(1e-6, 2e-6))",
        uplink="on_vector(uniform(bits=4))",
    )
    with pytest.raises(InputError, match="take on_leaves"):
        jax.eval_shape(algorithm.client_init, bench.params)


def test_the_first_stage_of_prunefl_only_shrinks_the_mask(bench):
    """It ends early or after its rounds, trains, and later rounds go on from there."""
    text = (
        "prunefl(times=own, constant=0.05, computation=(0.1, 0.2), every=0, "
        "initial_rounds=40, initial_every=5)"
    )
    algorithm = bench.build(text)
    server = begun(algorithm, bench.params)
    shard = bench.data.shard(np.int32(0), np.int32(6))
    told = client_told(bench.params, examples=6)
    after = jax.device_get(jax.jit(algorithm.begin.run)(server, shard, told))
    share = float(prune.density(after.mask, after.params).overall)
    assert 0 < share < 1
    assert after.version == server.version + 1
    moved = np.any(
        np.asarray(after.params["output"]["kernel"])
        != np.asarray(bench.params["output"]["kernel"])
    )
    assert moved
    held = algorithm._replace(init=lambda key, params: after)
    servers, _ = bench.rounds(held, 2)
    jax.tree.map(np.testing.assert_array_equal, servers[2].mask, after.mask)


def test_the_first_stage_of_prunefl_takes_the_authors_rounds(bench):
    """By hand. A model that is right once its bias has moved is found right before
    round 11, which ends with a mask, as do 16, 21, ...; a mask of 1000 weights without
    gradients loses floor(0.05 n) each time. The first has none to differ from, so five
    little changes are there after six masks, 36 rounds."""

    def run(params, shard, key):
        update = {
            "bias": np.ones(3, np.float32),
            "kernel": np.zeros((1, 1000), np.float32),
        }
        return update, {"loss": np.float32(6), "examples": np.float32(6)}

    def apply(params, columns, key):
        right = np.eye(3, dtype=np.float32)[1] * params["bias"]  # the client's class
        return jnp.broadcast_to(right - 0.5, (columns["features"].shape[0], 3))

    algorithm = bench.build(
        "prunefl(times=own, computation=(1e-6,), removable=0.05, initial_every=5)",
        updating(run, bench.model._replace(apply=apply)),
    )
    params = {"bias": np.zeros(3, np.float32), "kernel": np.ones((1, 1000), np.float32)}
    params["kernel"] += np.arange(1000, dtype=np.float32)
    shard = bench.data.shard(np.int32(0), np.int32(6))
    server = begun(algorithm, params)
    told = client_told(params, examples=6)
    after = jax.jit(algorithm.begin.run)(server, shard, told)
    left = 1000
    for _ in range(6):
        left -= left // 20
    assert after.params["bias"].tolist() == [36] * 3
    assert after.mask["kernel"][0].tolist() == [False] * (1000 - left) + [True] * left


def test_a_round_of_clients_without_a_full_batch_moves_nothing(bench):
    algorithm = bench.build("magnitude_pruning(0.5)", local="sgd(batch=50, last=drop)")
    servers, _ = bench.rounds(algorithm, 1)
    jax.tree.map(np.testing.assert_array_equal, servers[0].params, servers[1].params)
