"""Tasks that are no classification, from files to pictures: numbers, several labels,
masks, sequences of unequal length, and a model that reads two columns.

The figures of each are computed once more, by numpy, from what the run has learned.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from matplotlib.image import imread

from fedjax_compress import data as datasets
from fedjax_compress import registry
from fedjax_compress.errors import Diverged, InputError
from fedjax_compress.experiment import Config, Scheme, build, compare, run, trained
from fedjax_compress.models import from_linen
from fedjax_compress.report import files, grid_plots, records, report, reporting, tables

ROWS, TESTED = 90, 30
BASE = Config(
    partition="iid", clients=6, cohort=3, rounds=2, server="fedavg", devices=1, lanes=1,
    tune="never", local="sgd(lr=0.1, batch=5)", uplink="identity", downlink="identity",
)  # fmt: skip


class Both(linen.Module):
    """Pixels and an age."""

    @linen.compact
    def __call__(self, image, age):
        seen = jnp.concatenate([image.reshape(len(image), -1), age[:, None]], axis=1)
        return linen.Dense(3)(seen)


@pytest.fixture(autouse=True)
def own_models(monkeypatch):
    """``masks`` and ``both``, for this test only."""
    monkeypatch.setitem(registry._entries._tables, "model", registry.entries("model"))

    @registry.register("model", context=1)
    def masks(task):
        """A class of each pixel from its neighbours."""
        return from_linen(linen.Conv(task.classes, (3, 3)), task, conv="direct")

    @registry.register("model", context=1)
    def both(task):
        """Reads two columns."""
        return from_linen(Both(), task, inputs=lambda c: (c["features"], c["age"]))


def rows(name: str, rng: Any) -> dict[str, np.ndarray]:
    """Columns of a task."""
    x = rng.normal(size=(ROWS, 4)).astype(np.float32)
    noise = 0.1 * rng.normal(size=ROWS)
    image = rng.random((ROWS, 5, 6)).astype(np.float32)
    if name == "numbers":
        return {"x": x, "y": x @ [1, -1, 0.5, 0.2] + noise}
    if name == "several":
        return {"x": x, "y": (x @ rng.normal(size=(4, 3)) > 0).astype(int)}
    if name == "masks":
        return {"x": image, "y": (image > 0.5).astype(np.uint8)}
    if name == "lengths":
        walk = (np.arange(8) + rng.integers(0, 7, (ROWS, 1))) % 7
        return {"x": walk[:, :-1], "y": walk[:, 1:], "n": rng.integers(1, 8, ROWS)}
    age = rng.normal(size=ROWS)
    return {"x": image, "y": (age > 0.5) + (age > -0.5).astype(int), "age": age}


def softmax_loss(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy at each position."""
    outputs = outputs - outputs.max(-1, keepdims=True)
    logs = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
    return -np.take_along_axis(logs, labels[..., None], -1)[..., 0]


def of_numbers(o, c):
    error = o.reshape(-1) - c["labels"]
    return {
        "test_loss": (error**2).mean(),
        "test_squared_error": (error**2).mean(),
        "test_absolute_error": np.abs(error).mean(),
    }


def of_several(o, c):
    y = c["labels"]
    right, wrong = ((o > 0) & (y > 0)).sum(), ((o > 0) != (y > 0)).sum()
    return {
        "test_loss": (np.log1p(np.exp(o)) - o * y).mean(),
        "test_f1": 2 * right / (2 * right + wrong),
    }


def of_masks(o, c):
    said, y = o.argmax(-1), c["labels"]
    each = [((said == k) & (y == k)).sum() for k in (0, 1)]
    either = [((said == k) | (y == k)).sum() for k in (0, 1)]
    return {
        "test_loss": softmax_loss(o, y).mean(),
        "test_accuracy": (said == y).mean(),
        "test_iou": np.mean([a / b for a, b in zip(each, either, strict=True)]),
    }


def of_lengths(o, c):
    real = np.arange(7) < c["lengths"][:, None]
    return {
        "test_loss": softmax_loss(o, c["labels"])[real].mean(),
        "test_accuracy": (o.argmax(-1) == c["labels"])[real].mean(),
    }


def of_both(o, c):
    return {
        "test_loss": softmax_loss(o, c["labels"]).mean(),
        "test_accuracy": (o.argmax(-1) == c["labels"]).mean(),
    }


TASKS: dict[str, Any] = {
    "numbers": ("", "mlp(hidden=(8,))", of_numbers, ("squared_error", "lower", "")),
    "several": (", target=several", "logistic", of_several, ("f1", "higher", "%")),
    "masks": ("", "masks", of_masks, ("accuracy", "higher", "%")),
    "lengths": (
        ", tokens=true, classes=7, lengths=n",
        "char_lstm(hidden=8, layers=1)",
        of_lengths,
        ("accuracy", "higher", "%"),
    ),
    "both": (", inputs=age", "both", of_both, ("accuracy", "higher", "%")),
}


LONG = "several", "both"


@pytest.mark.parametrize(
    "name",
    [n if n not in LONG else pytest.param(n, marks=pytest.mark.slow) for n in TASKS],
)
def test_from_a_file_to_a_comparison(name: str, tmp_path: Path, capsys: Any) -> None:
    options, model, figures, metric = TASKS[name]
    np.savez(tmp_path / "rows.npz", **rows(name, np.random.default_rng(0)))
    data = f"npz('{tmp_path}/rows.npz', features=x, labels=y, holdout=0.3{options})"
    config = Config(**vars(BASE) | {"data": data, "model": model})
    found = run(config, tmp_path / "exact")
    shown = capsys.readouterr().out
    dataset = datasets.check(registry.build("data", data))
    assert f"target   {datasets.describe_target(dataset)}\n" in shown
    words = metric[0].replace("_", " ")
    assert f"\ntest {words}" in shown
    assert f"round 2/2  {words} " in shown

    network, params = trained(tmp_path / "exact")
    outputs = np.asarray(network.apply(params, dataset.test, None), np.float64)
    for key, value in figures(outputs, dataset.test).items():
        assert found[key] == pytest.approx(value, rel=1e-4), key
    assert found["metric"] == dict(zip(("name", "better", "unit"), metric, strict=True))
    assert found == files.read_json(tmp_path / "exact" / files.SUMMARY)
    last = records.read(tmp_path / "exact" / files.METRICS)[-1]
    assert last[f"test_{metric[0]}"] == found[f"test_{metric[0]}"]
    assert imread(tmp_path / "exact" / files.PLOT).std() > 0

    rough = Config(**vars(config) | {"uplink": "uniform(bits=2)"})
    run(rough, tmp_path / "rough", quiet=True)
    folders: Any = [tmp_path / "exact", tmp_path / "rough"]
    both = report(folders, tmp_path / "both")
    title, exact, *_ = capsys.readouterr().out.splitlines()
    assert f" {words} " in title
    assert exact.startswith(" exact" if title[0] == " " else "exact")
    key = f"test_{metric[0]}"
    assert both["schemes"][0][key] == found[key]
    assert [key in s["curve"][-1] for s in both["schemes"]] == [True, True]
    assert imread(tmp_path / "both" / files.COMPARISON_PLOT).std() > 0


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of numbers to predict."""
    path = tmp_path_factory.mktemp("numbers") / "rows.npz"
    np.savez(path, **rows("numbers", np.random.default_rng(0)))
    return path


def of_file(path: Path, **changes: Any) -> Config:
    data = f"npz('{path}', features=x, labels=y, holdout=0.3)"
    given = vars(BASE) | {"data": data, "model": "logistic"} | changes
    return Config(**given)


def test_lower_is_better_in_a_comparison(
    numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """What sends most has the lowest error and is on the front; so is what sends
    least. A scheme that sends more than that and is worse is not."""
    drawn: dict[str, Any] = {}

    def keep(figure: Any, path: Path) -> None:
        drawn[path.name] = figure

    monkeypatch.setattr(grid_plots, "save", keep)
    schemes = (
        Scheme("exact", {"uplink": "identity"}),
        Scheme("rough", {"uplink": "uniform(bits=2)"}),
        Scheme("little", {"uplink": "top_k(0.2) | uniform(bits=1)"}),
    )
    config = of_file(numbers, rounds=3, evaluate_clients=True, evaluate_every=1)
    found = compare(config, schemes, tmp_path / "grid")
    errors = {s["name"]: s["test_squared_error"]["mean"] for s in found["schemes"]}
    sent = {s["name"]: s["megabytes"]["mean"] for s in found["schemes"]}
    front = {s["name"] for s in found["schemes"] if s["pareto"]}
    best = min(errors, key=lambda name: errors[name])
    least = min(sent, key=lambda name: sent[name])
    assert {best, least} <= front
    for a in errors:
        beaten = any(
            errors[b] <= errors[a] and sent[b] <= sent[a] and a != b for b in errors
        )
        assert (a in front) != beaten
    text = capsys.readouterr().out
    assert " squared error " in text
    assert "accuracy" not in text
    one = found["schemes"][0]
    assert one["metric"] == {"name": "squared_error", "better": "lower", "unit": ""}
    assert (
        one["client_squared_error_p90"]["mean"]
        > one["client_squared_error_mean"]["mean"]
    )
    axes = drawn[files.GRID_PLOT].axes[0]
    assert (
        axes.get_ylabel()
        .replace("\n", " ")
        .startswith("test squared error (lower is better), mean")
    )
    assert "%" not in "".join(t.get_text() for t in axes.get_yticklabels())
    title = drawn[files.COMPARISON_PLOT].axes[0].get_title(loc="left")
    assert title == "Test squared error against what travelled"


def test_schemes_with_different_metrics_are_no_comparison(
    numbers: Path, tmp_path: Path
) -> None:
    """Refused before one of them runs."""

    @registry.register("model", context=1)
    def otherwise(task):
        """Judged by the absolute error."""
        plain = registry.build("model", "logistic", task)
        return plain._replace(metrics=dict(reversed(plain.metrics.items())))

    config, words = of_file(numbers), "is judged by absolute error, but 'a' by squared"
    schemes = (
        Scheme("a", {"uplink": "identity"}),
        Scheme("b", {"uplink": "identity", "model": "otherwise"}),
    )
    with pytest.raises(InputError, match=f"'b' {words} error: they cannot"):
        compare(config, schemes, tmp_path / "grid", quiet=True)
    assert not (tmp_path / "grid").exists()
    for name, model in (("a", "logistic"), ("b", "otherwise")):
        run(of_file(numbers, model=model), tmp_path / name, quiet=True)
    folders: Any = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(InputError, match=f"'b' {words}"):
        report(folders, tmp_path / "both", quiet=True)
    assert not (tmp_path / "both").exists()


def test_folders_of_earlier_versions_are_judged_by_accuracy(
    finished: Path, tmp_path: Path
) -> None:
    summary = files.read_json(finished / files.SUMMARY)
    assert summary.pop("metric") == {
        "name": "accuracy",
        "better": "higher",
        "unit": "%",
    }
    (tmp_path / files.SUMMARY).write_text(json.dumps(summary))
    for name in (files.METRICS, files.CONFIG):
        (tmp_path / name).write_text((finished / name).read_text())
    old, new = (reporting.read_finished(place) for place in (tmp_path, finished))
    assert old.curve == new.curve
    found = tables.figures_of([old.summary])
    assert found == tables.figures_of([new.summary])
    assert "test_accuracy" in found


def test_a_run_that_diverged_has_none_of_its_scores(
    numbers: Path, tmp_path: Path
) -> None:
    config = of_file(numbers, server="fedavg(lr=1e38)", local="sgd(lr=9.0, batch=5)")
    with pytest.raises(Diverged, match="not finite"):
        run(config, tmp_path / "run", quiet=True)
    summary = files.read_json(tmp_path / "run" / files.SUMMARY)
    assert summary["diverged"] >= 1
    for name in ("loss", "squared_error", "absolute_error"):
        assert summary[f"test_{name}"] is None
    assert "test_accuracy" not in summary


@pytest.mark.parametrize("name", ["numbers", "several"])
def test_absent_classes_are_masked_only_where_there_are_classes(
    name: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "rows.npz", **rows(name, np.random.default_rng(0)))
    options = TASKS[name][0]
    data = f"npz('{tmp_path}/rows.npz', features=x, labels=y{options})"
    config = of_file(tmp_path / "rows.npz", model="mlp(hidden=(8,))", data=data)
    config = Config(**vars(config) | {"algorithm": "heterofl(rates=(1, 0.5))"})
    with pytest.raises(InputError, match=r"number of a class; say mask_classes=false"):
        run(config, tmp_path / "run", quiet=True)


def test_what_a_local_update_adds_to_its_metrics_is_in_the_file(
    numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean by examples of their number, where everybody takes part, in a call of
    several rounds; and with an algorithm of several tiers."""
    monkeypatch.setitem(registry._entries._tables, "local", registry.entries("local"))

    @registry.register("local", context=1)
    def telling(model):
        """Also tells its number of rows."""
        plain = registry.build("local", "sgd(lr=0.1, batch=5)", model)

        def run(problem, shard, context):
            found = plain.run(problem, shard, context)
            own = {"rows": found.metrics["examples"], "round": context.round}
            return found._replace(metrics=found.metrics | own)

        return plain._replace(run=run)

    more: dict[str, Any] = {"cohort": 6, "rounds_per_call": 2, "local": "telling"}
    config = of_file(numbers, partition="quantity(alpha=0.5)", evaluate_every=2, **more)
    run(config, tmp_path / "run", quiet=True)
    dataset = datasets.check(registry.build("data", config.data))
    sizes = build.deal(config, dataset)[0].sizes.astype(float)
    history = records.read(tmp_path / "run" / files.METRICS)
    for i, record in enumerate(history):
        assert record["train_rows"] == pytest.approx((sizes**2).sum() / sizes.sum())
        assert record["train_round"] == i
        assert {name for name in record if name.startswith("train_")} == {
            "train_loss", "train_rows", "train_round",
        }  # fmt: skip
    tiers = of_file(
        numbers,
        model="mlp(hidden=(8,))",
        algorithm="heterofl(rates=(1, 0.5), mask_classes=false)",
        **more,
    )
    run(tiers, tmp_path / "tiers", quiet=True)
    history = records.read(tmp_path / "tiers" / files.METRICS)
    assert [r["train_round"] for r in history] == [0, 1]
    assert [r["dropped"] for r in history] == [0, 0]
