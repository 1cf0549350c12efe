"""Masks in a round: what stays, what moves, what travels, and gradients by hand."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from fedjax_compress import prune, wire
from fedjax_compress.errors import InputError

HALF = "sparsity=one_shot(0.5), pattern=unstructured, every=2, refine_until=100"
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
        text = f"federated_pruning({HALF}, score={score}, allocation=threshold)"
        servers, _ = bench.rounds(bench.build(text, local=local), 8)
        masks = [np.concatenate([m.ravel() for m in out_of_use(s)]) for s in servers]
        first = masks[2]  # set after two rounds, by gradients if they are what counts
        gone[score] = all(np.all(later[first]) for later in masks[2:])
    assert gone == {"gradient": True, "weight": False}


def test_a_frozen_mask_stays_and_a_ramp_ends(bench):
    text = (
        "federated_pruning(sparsity=cubic(0.5, begin=0, end=4), pattern=unstructured, "
        "every=2, refine_until=0)"
    )
    servers, _ = bench.rounds(bench.build(text), 7)
    shares = [float(prune.density(s.mask, s.params).overall) for s in servers]
    assert shares[:2] == [1.0, 1.0]
    np.testing.assert_allclose(shares[2], 1 - 0.5 * (1 - 0.5**3), atol=0.02)
    np.testing.assert_allclose(shares[4:], 0.5, atol=0.02)
    assert servers[4].version == servers[7].version
    jax.tree.map(np.testing.assert_array_equal, servers[4].mask, servers[7].mask)


def test_only_what_is_in_use_travels_and_a_new_mask_once(bench):
    """48 weights, half of them, 9 biases: 33 numbers; and counts of at most 6 bits."""
    text = "federated_pruning(sparsity=one_shot(0.5), pattern=column, every=100)"
    algorithm = bench.build(text)
    _, history = bench.rounds(algorithm, 2)
    columns = [3, 2.5]  # halves are rounded to 3 of 5 and 3 of 6, or 2 and 3
    least, most = 4 * (9 + 2 * 6 + 3 * 3), 4 * (9 + 3 * 6 + 3 * 3)
    assert columns
    for reports, message in history:
        assert 16 + least <= len(wire.pack(message)) <= 16 + most + 4
        for report in reports:
            assert len(wire.pack(report.payload)) <= 16 + most + 4
    first, then = (len(wire.pack(h[0][0].down)) for h in history)
    # Two lists of 5 and 6 units: a few bits more than two empty lists.
    assert 16 < then <= first <= 16 + 4
    masks = jax.tree.leaves(history[1][0][0].down)
    assert not any(np.any(m) for m in masks)


def test_prunefl_gathers_the_gradients_of_what_is_out_of_use(bench):
    """One step of SGD: squares are rows * (lr * gradient at w m)^2, for all weights."""
    algorithm = bench.build(
        f"prunefl({OWN}, every=2)", local="sgd(lr=0.5, steps=1, batch=6)"
    )
    rng = np.random.default_rng(1)
    server = algorithm.init(jax.random.key(0), bench.params)
    mask = jax.tree.map(lambda m: rng.random(m.shape) < 0.5, server.mask)
    held = algorithm._replace(init=lambda key, p: server._replace(mask=mask))
    servers, history = bench.rounds(held, 1, clients=1)
    x, y = bench.data.features[:6], bench.data.labels[:6]

    def loss(params):
        return bench.model.loss(bench.model.apply(params, x, None), y).mean()

    masked = prune.apply(mask, bench.params)
    grads = jax.jit(jax.grad(loss))(masked)
    wanted = jax.tree.map(lambda g: 6 * (0.5 * np.asarray(g)) ** 2, grads)
    (report,) = history[0][0]
    gathered = report.state[2]
    in_use = prune.apply(mask, jax.tree.map(np.ones_like, bench.params))
    jax.tree.map(
        lambda g, w, u: np.testing.assert_allclose(
            g, w * (1 - u), rtol=1e-4, atol=1e-7
        ),
        gathered, wanted, in_use,
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
    up = [len(wire.pack(reports[0].payload)) for reports, _ in history]
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
    shown = algorithm.params(servers[1])
    for pruned, w in zip(
        out_of_use(servers[1]),
        [shown["dense_1"]["kernel"], shown["output"]["kernel"]],
        strict=True,
    ):
        assert not np.any(np.asarray(w)[pruned])


def test_magnitude_pruning_is_the_mean_of_pruned_weights(bench):
    servers, history = bench.rounds(bench.build("magnitude_pruning(0.6)"), 1)
    each = []
    for report in history[0][0]:
        leaves = [np.asarray(f.symbols) for f in wire.fields(report.payload)]
        flat = np.concatenate([x.ravel() for x in leaves])
        assert (flat == 0).sum() == int(0.6 * 57)
        each.append(flat)
    after = np.concatenate([np.ravel(x) for x in jax.tree.leaves(servers[1].params)])
    np.testing.assert_allclose(after, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)


def test_lottery_tickets_start_again_from_the_beginning(bench):
    """Threshold 0: every client prunes a fifth of what is left, floor(0.2 n)."""
    text = "lotteryfl(threshold=0.0, target=0.5)"
    algorithm = bench.build(text, local="sgd(lr=1e-6, steps=1, batch=6)")
    servers, history = bench.rounds(algorithm, 5)
    left = []
    for reports, _ in history:
        mask = reports[0].state[1]
        left.append(int(sum(m.sum() for m in jax.tree.leaves(mask))))
        kept = prune.apply(mask, bench.params)
        sent = jax.tree.leaves(jax.tree.map(np.asarray, reports[0].payload["weights"]))
        total = sum(float(np.sum(x)) for x in sent)
        wanted = sum(float(np.sum(x)) for x in jax.tree.leaves(kept))
        np.testing.assert_allclose(total, wanted, rtol=1e-3, atol=1e-3)
    # 30 and 18: 24 + 15, 20 + 12, 16 + 10 and then 13 + 8, below half of 48.
    assert left == [39, 32, 26, 21, 21]
    assert servers[0].initial["output"]["kernel"].shape == (6, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("federated_pruning(sparsity=one_shot(1.0))", r"target must be in \[0, 1\)"),
        ("federated_pruning(every=0)", "every must be at least 1 round"),
        ("federated_pruning(pattern=colum)", "did you mean 'column'"),
        ("federated_pruning(momentum=1.0)", "momentum must be from 0 to below 1"),
        ("prunefl(times=own)", "needs computation"),
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
        algorithm.init(jax.random.key(0), bench.params)


def test_a_rotation_cannot_follow_a_mask(bench):
    with pytest.raises(InputError, match="elementwise"):
        bench.build("federated_pruning", uplink="hadamard | uniform(bits=4)")
