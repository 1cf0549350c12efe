"""What clients tell by names of their own reaches the record, as their loss does.

Local updates here are made up, so that a round compiles in no time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup, updating

from fedjax_compress import algorithms, registry
from fedjax_compress.errors import InputError
from fedjax_compress.models import metrics
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Counted, Metric, Model

SIZES = np.array([1, 2, 3, 4, 5])


def simulator_of(told, observe=None, model=None, **options):
    """Client c has SIZES[c] rows and tells ``told(c)``; nothing is learned."""

    def train(params, shard, key):
        size = shard.size.astype(jnp.float32)
        known = {"loss": 10 * size, "examples": size, "steps": size, "processed": size}
        update = jnp.where(shard.size == SIZES[2], jnp.nan, 0.0) * params
        return update, known | told(size)

    algorithm = algorithms.fedavg(setup(updating(train, model)))
    if observe is not None:
        algorithm = algorithm._replace(observe=observe)
    owner = np.repeat(np.arange(len(SIZES)), SIZES).astype(np.int32)
    columns = np.zeros((len(owner), 1), np.float32), np.zeros(len(owner), np.int32)
    data = labelled(*columns, owner, len(SIZES))
    sampling = registry.build("sampling", "uniform")
    return Simulator(algorithm, data, cohort=5, sampling=sampling, **options)


def record_of(simulator, rounds=1):
    _, records = simulator.advance(simulator.start(jnp.ones(3)), rounds)
    return records[-1]


@pytest.mark.parametrize("options", [{"lanes": 1}, {"lanes": 3}, {"devices": 2}])
def test_the_mean_over_usable_clients_by_their_examples(options):
    """Client 2 is dropped: (1 + 4 + 16 + 25) / (1 + 2 + 4 + 5), and its squares."""
    simulator = simulator_of(
        lambda size: {"grad_norm": size, "square": size**2, "whole": 7}, **options
    )
    record = record_of(simulator)
    assert record["dropped"] == 1
    assert record["train_grad_norm"] == pytest.approx(46 / 12)
    assert record["train_square"] == pytest.approx((1 + 8 + 64 + 125) / 12)
    assert record["train_whole"] == 7
    assert record["train_loss"] == pytest.approx(460 / 12)
    assert {name for name in record if name.startswith("train_")} == {
        "train_loss", "train_grad_norm", "train_square", "train_whole",
    }  # fmt: skip


def test_of_several_rounds_in_a_call_each_has_its_own():
    simulator = simulator_of(lambda size: {"own": size}, rounds_per_call=3)
    _, records = simulator.advance(simulator.start(jnp.ones(3)), 3)
    assert [r["train_own"] for r in records] == [pytest.approx(46 / 12)] * 3


def pooled(size):
    """Of 5 rows 1 is right: shares of the clients have another mean."""
    right = jnp.where(size > 3, 1, 0)
    metric = Metric(lambda *x: x[0], metrics.ratio, "higher", "%")
    return {"share": Counted(metric, [right, jnp.where(size > 1, size, 0.0)])}


@pytest.mark.parametrize("options", [{"lanes": 1}, {"lanes": 3}, {"devices": 2}])
def test_sums_over_clients_are_finished_once(options):
    """Clients of 1, 2, 4 and 5 rows: (0 + 0 + 1 + 1) / (0 + 2 + 4 + 5)."""
    record = record_of(simulator_of(pooled, rounds_per_call=2, **options), 2)
    assert record["train_share"] == pytest.approx(2 / 11)


def test_a_metric_is_counted_over_a_clients_own_rows():
    """F1 of a client of 3 rows beside one of 2, as by hand; 70 rows take two blocks."""
    f1 = metrics.f1()
    net = Model(
        lambda key: jnp.ones(3), lambda w, c, key: c["features"] - w[0],
        lambda *x: x, {"f1": f1},
    )  # fmt: skip
    says = np.tile([2.0, 2.0, 0.0, 0.0, 2.0], 14)[:, None].astype(np.float32)
    labels = np.tile([1, 0, 1, 0, 1], 14)[:, None].astype(np.int32)
    data = labelled(says, labels, np.repeat([0, 1], [3, 67]).astype(np.int32), 2)
    for client, rows in ((0, slice(0, 3)), (1, slice(3, 70))):
        shard = data.shard(jnp.asarray(client), jnp.asarray(67))
        found = jax.jit(lambda s: metrics.counted(f1, net, jnp.ones(3), s))(shard)
        said, true = says[rows] > 1, labels[rows] > 0
        wanted = [(said & true).sum(), (said & ~true).sum(), (~said & true).sum()]
        assert [int(x) for x in found.sums] == wanted


TWO = {"f1": metrics.f1(), "error": metrics.squared_error()}
LOWER = {"error": metrics.squared_error()}


def model_of(found):
    return Model(lambda key: jnp.ones(3), lambda *x: x, lambda *x: x, found)


@pytest.mark.parametrize(
    ("told", "observe", "model", "words"),
    [
        ({"own": jnp.ones(2)}, None, None, r"metric 'own' .* one number, \[\], not fl"),
        ({3: 1.0}, None, None, "must have a name, not 3"),
        (
            {"own": Counted(metrics.f1()._replace(finish=lambda s: s), jnp.ones(2))},
            None,
            None,
            r"metric 'own' .* must be finished to one number, not float32",
        ),
        ({"loss": Counted(metrics.f1(), jnp.ones(3))}, None, None, "'loss' .* one num"),
        ({"own": 1.0}, "train_own", None, "'train_own', which is a name of the record"),
        ({}, "test_accuracy", None, "'test_accuracy', which is a name of"),
        ({}, "client_accuracy_p10", None, "'client_accuracy_p10', which is a name of"),
        ({}, "test_error", TWO, "'test_error', which is a name of"),
        ({}, "client_f1_mean", TWO, "'client_f1_mean', which is a name of"),
        ({}, "client_error_p90", LOWER, "'client_error_p90', which is a name of"),
    ],
)
def test_names_and_values_that_no_record_can_have(told, observe, model, words):
    """In one line while the round is traced."""
    seen = None if observe is None else lambda server: {observe: server.params[0]}
    model = None if model is None else model_of(model)
    simulator = simulator_of(lambda size: told, seen, model)
    with pytest.raises(InputError, match=words) as caught:
        record_of(simulator)
    assert "\n" not in str(caught.value)
    assert not simulator.programs.digests  # nothing was compiled


def test_names_of_other_models_are_free():
    names = ("test_accuracy", "client_f1_p90", "client_error_mean", "train_own")

    def observe(server):
        return dict.fromkeys(names, server.params[0])

    record = record_of(simulator_of(lambda size: {}, observe, model_of(TWO)))
    assert [record[name] for name in names] == [1] * 4
