"""Runs of systems that share knowledge: scores, resume, what is refused."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from fedjax_compress import tree
from fedjax_compress.errors import CheckpointError, Diverged, InputError
from fedjax_compress.experiment import Config, build, resume, run, trained

BASE = Config(
    clients=4, cohort=3, rounds=4, evaluate_every=2, checkpoint_every=1, devices=1,
    model="mlp(hidden=(12,))", server="fedavg", local="sgd(lr=0.2, batch=30)",
    public="held_out(0.2)",
)  # fmt: skip
GKT = dataclasses.replace(
    BASE, algorithm="fedgkt(mlp(hidden=(16,)), epochs=1, batch=32)", public="none",
    uplink="uniform(bits=8)", downlink="identity",
)  # fmt: skip
ET = dataclasses.replace(
    BASE,
    algorithm="fed_et(mlp(hidden=(24, 12)), others=(mlp(hidden=(8, 12)),), "
    "shared=output, student=sgd(lr=0.1, steps=8))",
)
DF = dataclasses.replace(
    BASE, algorithm="fed_df(others=(logistic,), student=sgd(lr=0.1, steps=8))"
)
MD = dataclasses.replace(
    BASE, uplink="identity", downlink="identity",
    algorithm="fed_md(others=(logistic,), rows=40)",
)  # fmt: skip


def records_of(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    timed = ("seconds", "clients_per_second")
    return [{k: v for k, v in r.items() if k not in timed} for r in records]


@pytest.mark.parametrize(
    ("config", "scores"),
    [
        (GKT, {"accuracy", "edge_accuracy"}),
        (ET, {"accuracy", "accuracy_first", "accuracy_mlp"}),
        (DF, {"accuracy", "accuracy_logistic"}),
        (MD, {"accuracy"}),
    ],
    ids=["fedgkt", "fed_et", "fed_df", "fed_md"],
)
def test_a_run_is_scored_and_goes_on_bit_for_bit(config, scores, tmp_path):
    """Two rounds, then two more: as four at once, states of clients and server too.

    FedDF and FedMD go on in the contract's tests.
    """
    summary = run(config, tmp_path / "whole", quiet=True)
    whole = records_of(tmp_path / "whole")
    names = ["whole"]
    if config in (GKT, ET):
        names.append("parts")
        run(dataclasses.replace(config, rounds=2), tmp_path / "parts", quiet=True)
        resume(tmp_path / "parts", {"rounds": 4}, quiet=True)
        assert records_of(tmp_path / "parts") == whole
    found = {n for n in whole[-1] if n.startswith("test_") and "loss" not in n}
    assert found == {f"test_{name}" for name in scores}
    own = config in (GKT, MD)
    given = {"client": 2} if own else {}
    each = [trained(tmp_path / name, **given) for name in names]
    model, params = each[0]
    assert tree.sha256(params) == tree.sha256(each[-1][1])
    shape = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.tree.map(lambda x: x.shape, shape) == jax.tree.map(np.shape, params)
    assert summary["fp32_bytes"] == round(4 * _averaged(config) * 12)
    with pytest.raises(InputError, match="networks of their own"):
        trained(tmp_path / "whole", **({} if own else {"client": 2}))


def _averaged(config):
    """Parameters that averaging would send, by hand: inputs 64, classes 10."""
    mlp = 64 * 12 + 12 + 12 * 10 + 10
    logistic = 64 * 10 + 10
    if config is GKT:
        return mlp + 12 * 16 + 16 + 16 * 10 + 10
    if config is ET:
        return 64 * 24 + 24 + 24 * 12 + 12 + 12 * 10 + 10
    return (mlp + logistic) / 2


def test_scores_are_means_over_clients_of_their_own(tmp_path):
    """Of each client by itself, from what ``trained`` takes out."""
    run(MD, tmp_path / "run", quiet=True)
    test = build.build(MD).dataset.test
    scores = []
    for client in range(4):
        model, params = trained(tmp_path / "run", client=client)
        outputs = model.apply(params, test, None)
        scores.append((np.argmax(outputs, -1) == test["labels"]).mean())
    found = records_of(tmp_path / "run")[-1]["test_accuracy"]
    assert found == pytest.approx(np.mean(scores))
    longer = dataclasses.replace(MD, rounds=5)
    other = run(longer, tmp_path / "longer", quiet=True)
    first = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert other["parameters_sha256"] != first["parameters_sha256"]


def test_a_run_whose_public_rows_have_changed_does_not_go_on(tmp_path):
    path = tmp_path / "public.npz"
    rng = np.random.default_rng(0)

    def write(scale):
        rows = scale * rng.normal(size=(40, 8, 8)).astype(np.float32)
        np.savez(path, images=rows, labels=np.arange(40) % 10)

    write(1.0)
    given = f"source(npz(path='{path}', scale=none))"
    alone = "fed_df(student=none)"
    config = dataclasses.replace(DF, algorithm=alone, public=given, rounds=2)
    run(config, tmp_path / "run", quiet=True)
    write(2.0)
    with pytest.raises((InputError, CheckpointError), match="data"):
        resume(tmp_path / "run", {"rounds": 4}, quiet=True)


def test_a_group_that_is_lost_ends_the_run(tmp_path):
    config = dataclasses.replace(
        DF, algorithm="fed_df(others=(mlp(hidden=(64, 64)),), "
        "student=sgd(lr=1e12, steps=9))", rounds=1,
    )  # fmt: skip
    with pytest.raises(Diverged):
        run(config, tmp_path / "run", quiet=True)


def rows(shape, value=0.0, dtype=np.float32, **more):
    return {"features": np.full(shape, value, dtype)} | more


PUBLIC = [
    (lambda data, rng: rows((3, 8, 8, 1)), r"must give \(dataset, columns by name\)"),
    (lambda data, rng: (data, rows((3, 5, 5))), "public rows must be alike"),
    (lambda data, rng: (data, rows((0, 8, 8, 1))), "it gives no rows"),
    (lambda data, rng: (data, rows((3, 8, 8, 1), np.nan)), "(?i)features.*nan"),
    (lambda data, rng: (data, rows((3, 8, 8, 1), dtype=np.float64)), "must be alike"),
    (lambda data, rng: (data, rows((3, 8, 8, 1), x=np.zeros(3))), "it gives x, which"),
    ("none", "fed_df needs rows that no client has"),
]


@pytest.mark.parametrize(("public", "words"), PUBLIC)
def test_public_rows_that_cannot_be_used(public, words):
    with pytest.raises(InputError, match=words) as refused:
        build.build(dataclasses.replace(DF, public=public))
    assert "\n" not in getattr(refused.value, "reason", str(refused.value))


ALGORITHMS = [
    (GKT, {"model": "logistic"}, "in halves, such as resnet8"),
    (GKT, {"algorithm": "fedgkt(temperature=1e999)"}, "temperature must be above 0"),
    (GKT, {"algorithm": "fedgkt(resnet55)"}, "image"),
    (DF, {"algorithm": "fed_df(student=sgd(batch=999, last=drop))"}, "takes no step"),
    (DF, {"algorithm": "fed_df(others=(mpl,))"}, "did you mean 'mlp'"),
    (
        DF, {"uplink": "by_label(identity, dense_1=top_k(0.5))"},
        "uplink on the network of group 'logistic': no leaf is labelled",
    ),
    (
        DF, {"algorithm": "fed_df(others=(partial(mlp, train=output, sent=once),))"},
        "sent=never",
    ),
    (ET, {"algorithm": "fed_et(mlp, shared=outpt)"}, "did you mean 'output'"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "changes", "words"), ALGORITHMS)
def test_what_cannot_be_is_said_in_a_line(config, changes, words):
    config = dataclasses.replace(config, **changes)
    with pytest.raises(InputError, match=words):
        build.rehearse(config, build.load_data(config))
