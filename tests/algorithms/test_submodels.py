"""Submodels in a round: where they are FedAvg, sums over holders, bytes, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import registry, wire
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

LOGISTIC = registry.build("model", "logistic", Task((5,), 3))


def close(a, b, **tolerance):
    tolerance = {"rtol": 1e-5, "atol": 1e-6, **tolerance}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize(
    "text",
    [
        "federated_dropout(keep_rate=1.0)",
        "federated_dropout(keep_rate=1.0, select=adaptive, average=holders)",
        "heterofl(rates=(1.0,), mask_classes=false)",
        "fjord(rates=(1.0,))",
    ],
)
def test_the_whole_model_is_fedavg(bench, text):
    server = {"server": "fedavgm(momentum=0.5)"}
    plain, _ = bench.rounds(bench.build("fedavg", **server), 2)
    found, _ = bench.rounds(bench.build(text, **server), 2)
    close(found[-1].params, plain[-1].params)


def updates_of(reports):
    """Each client's update as it arrived, by parameter."""
    found = []
    for report in reports:
        leaves = [f.symbols for f in wire.fields(report.payload["update"])]
        found.append(leaves)
    return found


def test_each_parameter_is_the_mean_over_those_that_hold_it(bench):
    """Prefixes of 6 and 3 of six units; clients 0 and 1 hold all, 2 and 3 half."""
    text = "heterofl(rates=(1.0, 0.5), mask_classes=false, scaler=false)"
    servers, history = bench.rounds(bench.build(text), 1, tiers=[0, 0, 1, 1])
    bias, kernel, out_bias, out_kernel = zip(
        *updates_of(history[0].reports), strict=True
    )
    assert [k.shape for k in kernel] == [(5, 6), (5, 6), (5, 3), (5, 3)]
    before, after = (s.params for s in servers)
    moved = jax.tree.map(np.subtract, after, before)
    halves = sum(k[:, :3] for k in kernel) / 4, (kernel[0] + kernel[1])[:, 3:] / 2
    close(moved["dense_1"]["kernel"], np.concatenate(halves, 1))
    halves = sum(b[:3] for b in bias) / 4, (bias[0] + bias[1])[3:] / 2
    close(moved["dense_1"]["bias"], np.concatenate(halves))
    halves = sum(k[:3] for k in out_kernel) / 4, (out_kernel[0] + out_kernel[1])[3:] / 2
    close(moved["output"]["kernel"], np.concatenate(halves))
    close(moved["output"]["bias"], sum(out_bias) / 4)


def test_what_nobody_holds_stays_whatever_the_server(bench):
    """Momentum of rounds before moves nothing; a window of three units, rolling on."""
    text = "federated_dropout(keep_rate=0.5, select=rolling(step=3), average=holders)"
    algorithm = bench.build(text, server="fedavgm(momentum=0.9)")
    servers, _ = bench.rounds(algorithm, 3)
    for number, held in enumerate([slice(0, 3), slice(3, 6), slice(0, 3)]):
        before, after = (servers[number + i].params["dense_1"] for i in (0, 1))
        still = np.ones(6, bool)
        still[held] = False
        assert np.array_equal(before["kernel"][:, still], after["kernel"][:, still])
        assert np.all(before["kernel"][:, held] != after["kernel"][:, held])


def test_over_the_cohort_what_is_not_held_counts_as_not_moved(bench):
    holders, history = bench.rounds(
        bench.build("federated_dropout(0.5, select=prefix, average=holders)"), 1
    )
    cohort, _ = bench.rounds(bench.build("federated_dropout(0.5, select=prefix)"), 1)
    close(holders[1].params, cohort[1].params)  # all hold the same
    random, history = bench.rounds(bench.build("federated_dropout(0.5)"), 1)
    moved = jax.tree.map(np.subtract, random[1].params, random[0].params)
    total = sum(np.sum(u[1]) for u in updates_of(history[0].reports)) / 4
    np.testing.assert_allclose(np.sum(moved["dense_1"]["kernel"]), total, rtol=1e-4)


def test_clients_of_a_round_hold_different_units(bench):
    _, history = bench.rounds(bench.build("federated_dropout(0.5)"), 1)
    downs = [f.symbols for sent in history[0].alone for f in wire.fields(sent)][1::4]
    assert len({d.tobytes() for d in downs}) > 1


def test_bytes_are_those_of_the_small_model(bench):
    """3 of 6 units: 5 * 3 + 3 + 3 * 3 + 3 numbers; lists and loss if scores decide."""
    _, history = bench.rounds(bench.build("federated_dropout(0.5)"), 1)
    assert not jax.tree.leaves(history[0].message)
    for report, sent in zip(history[0].reports, history[0].alone, strict=True):
        assert int(wire.size(report.payload)) == 16 + 4 * 30
        assert len(wire.pack(sent)) == 16 + 4 * 30
    text = "federated_dropout(0.5, select=adaptive)"
    _, history = bench.rounds(bench.build(text), 1)
    # 3 positions of 6: a bitmask's 6 bits, or fewer, after 3 bits that say which.
    more = [len(wire.pack(sent)) - (16 + 4 * 30) for sent in history[0].alone]
    assert set(more) <= {1, 2}
    assert all(len(wire.pack(r.payload)) == 16 + 4 * 31 for r in history[0].reports)


def test_classes_that_a_client_lacks_are_not_averaged_from_it(bench):
    text = "heterofl(rates=(1.0,), scaler=false)"
    servers, history = bench.rounds(bench.build(text), 1, clients=1)
    (report,) = history[0].reports
    assert report.payload["classes"].symbols.tolist() == [False, True, False]
    before, after = (s.params["output"]["kernel"] for s in servers)
    assert np.array_equal(before[:, [0, 2]], after[:, [0, 2]])
    assert np.all(before[:, 1] != after[:, 1])


def test_a_masked_class_reads_zero_in_the_loss(bench):
    """One step by hand: softmax over (0, z, 0), by finite arithmetic of jax.grad."""
    text = "heterofl(rates=(1.0,), scaler=false)"
    algorithm = bench.build(text, local="sgd(lr=1.0, steps=1, batch=6)")
    _, history = bench.rounds(algorithm, 1, clients=1)
    shown = lambda outputs: outputs * jnp.array([[0.0, 1.0, 0.0]])  # noqa: E731
    grads = jax.jit(jax.grad(lambda p: bench.loss(p, shown)))(bench.params)
    (update,) = updates_of(history[0].reports)
    close(update, [-g for g in jax.tree.leaves(grads)], atol=1e-5)


def test_fjord_trains_the_first_units_of_a_drawn_width(bench):
    text = "fjord(rates=(1.0, 0.5, 0.17))"
    algorithm = bench.build(text, local="sgd(lr=0.5, steps=1, batch=6)")
    seen = set()
    for done in bench.rounds(algorithm, 12)[1]:
        # The output layer reads units through kernel rows, which move for all that are
        # on in some row of some client.
        moved = [np.any(u[3] != 0, axis=1) for u in updates_of(done.reports)]
        units = np.flatnonzero(np.any(moved, axis=0))
        seen.add(1 + int(units.max(initial=0)))
    # All clients of a round draw one of 6, 3 and 1. One of three does not come in 12
    # rounds with probability 3 (2/3)^12 = 0.02; the draws are fixed by the seed.
    assert seen == {1, 3, 6}


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_fjord_distils_from_the_full_width_that_learns_at_every_step(bench, weight):
    """One step against gradients by hand, as in the first author's code at weight 1:
    the full width by its cross-entropy, and the drawn one by that with soft targets."""
    text = f"fjord(rates=(1.0, 0.5), distillation={weight})"
    still = {"server": "fedavg(lr=1e-9)", "local": "sgd(lr=1.0, steps=1, batch=6)"}
    algorithm = bench.build(text, **still)
    x, y = bench.first()

    def outputs(params, units):
        w, v = params["dense_1"], params["output"]
        hidden = jax.nn.relu(x @ w["kernel"][:, :units] + w["bias"][None, :units])
        return jax.nn.log_softmax(hidden @ v["kernel"][:units] + v["bias"][None])

    def loss(params, units):
        hard = jax.nn.one_hot(y, 3)
        full, part = outputs(params, 6), outputs(params, units)
        soft = jax.lax.stop_gradient(jnp.exp(full))
        targets = weight * soft + (1 - weight) * hard
        return -(full * hard).sum(1).mean() - (part * targets).sum(1).mean()

    wanted = jax.jit(jax.grad(loss), static_argnums=1)
    options = [jax.tree.leaves(wanted(bench.params, n)) for n in (6, 3)]
    drawn = []
    for done in bench.rounds(algorithm, 6, clients=1)[1]:
        (update,) = updates_of(done.reports)
        for n, grads in enumerate(options):
            pairs = zip(update, grads, strict=True)
            if all(np.allclose(u, -g, atol=1e-5) for u, g in pairs):
                drawn.append(n)
    # Each of 6 rounds is one of the two; both come, by the fixed seed.
    assert len(drawn) == 6
    assert set(drawn) == {0, 1}


def test_fjord_of_a_small_client_draws_among_its_own_widths(bench):
    algorithm = bench.build("fjord(rates=(1.0, 0.5))")
    _, history = bench.rounds(algorithm, 2, tiers=[1, 1, 1, 1])
    for done in history:
        assert all(u[1].shape == (5, 3) for u in updates_of(done.reports))


def test_tiers_follow_shares_and_stay(bench):
    of = bench.build("heterofl(rates=(1.0, 0.5), shares=(3, 1))").tiers.of
    ids = np.arange(10_000)
    first = of(0, 0, ids)
    assert np.array_equal(first, of(0, 7, ids))
    assert np.array_equal(first[::-1], of(0, 0, ids[::-1]))
    # Binomial(10000, 1/4): 5.2 standard deviations, false alarm below 1e-6.
    assert abs(first.mean() - 0.25) < 5.2 * np.sqrt(0.25 * 0.75 / 10_000)
    moving = bench.build("heterofl(rates=(1.0, 0.5), assign=dynamic)").tiers.of
    assert not np.array_equal(moving(0, 0, ids), moving(0, 1, ids))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("federated_dropout(keep_rate=0.0)", "keep_rate must be above 0"),
        ("federated_dropout(keep_rate=1.5)", "at most 1, not 1.5"),
        ("federated_dropout(select=rando)", "did you mean 'random'"),
        ("federated_dropout(select=rolling(step=0))", "step must be at least 1"),
        ("heterofl(rates=(0.5, 1.0))", "rates must fall"),
        ("heterofl(rates=())", "rates must fall"),
        ("heterofl(rates=(1.0, 0.0))", "rates must be above 0"),
        ("heterofl(shares=(1.0,))", "shares must be 5 numbers"),
        ("heterofl(select=adaptive)", "cannot be chosen by score"),
        ("fjord(distillation=-1.0)", "must be from 0 to 1, not -1.0"),
    ],
)
def test_refusals_are_one_line(bench, text, said):
    with pytest.raises(InputError, match=said) as caught:
        bench.build(text)
    assert "\n" not in caught.value.reason


def test_a_model_without_units_is_refused(bench):
    with pytest.raises(InputError, match="along which axes it can be cut"):
        bench._replace(model=LOGISTIC).build("federated_dropout")


@pytest.mark.parametrize("way", ["uplink", "downlink"])
def test_links_that_keep_a_state_are_refused(bench, way):
    algorithm = bench.build(
        "federated_dropout", **{way: "error_feedback(on_vector(top_k(0.5)))"}
    )
    start = {
        "uplink": algorithm.client_init,
        "downlink": lambda params: algorithm.init(jax.random.key(0), params),
    }
    with pytest.raises(InputError, match=f"its {way} cannot keep a state"):
        start[way](bench.params)
