"""Parts of one's own, by their names in a configuration: refused before anything runs.

Each is registered for one test. Nothing compiles but what makes the parameters.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import changed, two_classes

from fedjax_compress import registry, wire
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, build
from fedjax_compress.experiment.build import load_data, rehearse
from fedjax_compress.typing import LocalUpdate, Metric, Model, Stage, Trained

ROWS = 12
CONFIG = Config(
    clients=3, cohort=2, model="logistic", uplink="identity", downlink="identity",
    tune="never", devices=1, lanes=1,
)  # fmt: skip


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers a factory as ``mine``, for this test only."""

    def enter(kind: str, factory: Any, context: int = 0) -> None:
        table = registry.entries(kind)
        monkeypatch.setitem(registry._entries._tables, kind, table)
        factory.__name__ = "mine"
        registry.register(kind, context=context)(factory)

    return enter


data = functools.partial(two_classes, ROWS)


def made(setting: str) -> None:
    build.build(dataclasses.replace(CONFIG, **{setting: "mine"}), data())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda d, n, rng: np.zeros(ROWS), r"whole numbers, .* not float64\[12\]"),
        (lambda d, n, rng: np.zeros(5, int), r"each row, \[12\], not int64\[5\]"),
        (lambda d, n, rng: np.full(ROWS, -1), "must give some row to a client"),
        (lambda d, n, rng: np.full(ROWS, -3), "not -3"),
        (lambda d, n, rng: np.zeros(ROWS, int), "only 1 of 3 clients have rows"),
        (None, "mine must give a function, not NoneType"),
    ],
)
def test_a_partition(own, given, words):
    own("partition", lambda: given)
    with pytest.raises(InputError, match=f"^partition: .*{words}"):
        made("partition")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "a source of data must give a data.Dataset, not NoneType"),
        (
            changed(data(), train_labels=np.full(ROWS, 7)),
            "label 7 in row 0",
        ),
        (
            changed(data(), test_features=np.full((ROWS, 3), np.nan)),
            "test part: 12 rows have features that are not finite",
        ),
    ],
)
def test_a_source_of_data(own, given, words):
    own("data", lambda: given)
    with pytest.raises(InputError, match=words):
        load_data(dataclasses.replace(CONFIG, data="mine"))
    if isinstance(given, Dataset):
        with pytest.raises(InputError, match=words):
            build.build(CONFIG, given)


def counting(right: Any) -> Metric:
    """The number of rows that are right."""
    return Metric(
        lambda p, columns, outputs: right(outputs, columns["labels"]), jnp.sum
    )


def network(**parts: Any) -> Model:
    usual: dict[str, Any] = {
        "init": lambda key: {"w": jnp.zeros((3, 2))},
        "apply": lambda params, columns, key: columns["features"] @ params["w"],
        "losses": lambda outputs, columns: (outputs[:, 0], jnp.ones(len(outputs))),
        "metrics": {"right": counting(lambda outputs, labels: outputs[:, 0] > labels)},
    }
    return Model(**usual | parts)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"losses": lambda o, columns: (o.mean(), jnp.ones(len(o)))},
            r"the model's loss must .* not float32\[\]",
        ),
        (
            {"losses": lambda o, columns: (o[:, 0], o)},
            r"the weights of the model's loss must .* not float32\[2, 2\]",
        ),
        (
            {"losses": lambda o, columns: o[:, 0]},
            r"the model's losses must give \(value, weight\), not float32\[2\]",
        ),
        (
            {"metrics": {"right": counting(lambda o, y: (o[:, 0] > y).sum())}},
            r"the metric right must .* not int32\[\]",
        ),
        (
            {"metrics": {"right": counting(lambda o, y: o > 0)._replace(finish=abs)}},
            r"the metric right must be finished to one number, not float32\[2\]",
        ),
        ({"metrics": {}}, "the model's metrics must be at least one Metric by its"),
        (
            {"init": lambda key: {"w": jnp.zeros((3, 2), int)}},
            r"floats only; w is int32",
        ),
        (
            {"constrain": lambda p: {"w": p["w"][0]}},
            r"w is float32\[2\], not float32\[3",
        ),
    ],
)
def test_a_model(own, parts, words):
    own("model", lambda task: network(**parts), context=1)
    config = dataclasses.replace(CONFIG, model="mine")
    with pytest.raises(InputError, match=f"^model: .*{words}"):
        rehearse(config, data())


def test_a_bug_in_a_model_is_no_misfit(own):
    """A model of ours that raises does not fit the data; one's own has a bug."""

    def losses(outputs: Any, columns: Any) -> Any:
        return outputs.no_such_thing

    own("model", lambda task: network(losses=losses), context=1)
    with pytest.raises(AttributeError) as caught:
        rehearse(dataclasses.replace(CONFIG, model="mine"), data())
    assert "raised in the model's loss" in caught.value.__notes__
    assert caught.traceback[-1].name == "losses"


def test_a_bug_where_a_model_is_made_is_no_misfit(own):
    own("model", lambda task: {}["oops"], context=1)
    with pytest.raises(KeyError, match="oops") as caught:
        rehearse(dataclasses.replace(CONFIG, model="mine"), data())
    assert "raised in the model mine" in caught.value.__notes__


@pytest.mark.parametrize(
    ("kind", "setting", "context", "words"),
    [
        ("stage", "uplink", 0, "uplink: mine must give a Stage, not function"),
        ("local", "local", 1, "local must be a LocalUpdate, not function"),
        ("aggregate", "aggregate", 0, "the aggregator must be an Aggregator"),
        ("server", "server", 0, "the server optimizer must be a ServerOptimizer"),
        ("algorithm", "algorithm", 1, "the algorithm must be an Algorithm"),
        ("model", "model", 1, "the model must be a Model"),
    ],
)
def test_a_part_of_another_kind(own, kind, setting, context, words):
    own(kind, lambda *context: test_a_model, context=context)
    config = dataclasses.replace(CONFIG, **{setting: "mine"})
    with pytest.raises(InputError, match=words):
        build.build(config, data())


def first_round(config: Config) -> None:
    """As far as a run goes before it compiles its first round, if it gets there."""
    parts = build.build(config, data())
    simulator = parts.simulator
    state = simulator.start(parts.params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedjax_compress.runtime.compiling.compile_program", None)
        simulator.advance(state, 1)


def test_a_stage_whose_decode_has_another_shape(own):
    def decode(carrier: Any, side: Any, key: Any) -> Any:
        return side["x"].symbols[..., None]

    stage = Stage(
        lambda shape: (), lambda x, s, keys: (None, {"x": wire.raw(x)}, s), decode
    )
    own("stage", lambda: stage)
    with pytest.raises(InputError, match=r"stage's decode must .*, not float32\[2, 1"):
        first_round(dataclasses.replace(CONFIG, uplink="mine"))


def test_a_local_update_of_ones_own(own):
    def run(problem: Any, shard: Any, context: Any) -> Any:
        update = jax.tree.map(lambda p: p[..., None], problem.start)
        metrics = {"loss": jnp.zeros(()), "examples": jnp.ones(())}
        return Trained(update, problem.memory, metrics)

    own("local", lambda model: LocalUpdate(run), context=1)
    with pytest.raises(InputError, match="the update of the local update's run must"):
        first_round(dataclasses.replace(CONFIG, local="mine"))
