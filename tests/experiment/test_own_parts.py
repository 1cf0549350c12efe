"""Parts of one's own, by their names in a configuration: refused before anything runs.

Each is registered for one test. Nothing compiles but what makes the parameters.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import registry, wire
from fedjax_compress.clients import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, build
from fedjax_compress.experiment.build import load_data, rehearse
from fedjax_compress.typing import LocalUpdate, Model, Stage, Task

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
        monkeypatch.setitem(registry._entries, kind, table)
        factory.__name__ = "mine"
        registry.register(kind, context=context)(factory)

    return enter


def data() -> Dataset:
    features = np.zeros((ROWS, 3), np.float32)
    labels = np.arange(ROWS, dtype=np.int32) % 2
    task = Task((3,), 2)
    return Dataset("small", task, features, labels, None, features, labels, None)


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
        (None, "a source of data must give a clients.Dataset, not NoneType"),
        (
            dataclasses.replace(data(), train_labels=np.full(ROWS, 7)),
            "label 7 in row 0",
        ),
        (
            dataclasses.replace(data(), test_features=np.full((ROWS, 3), np.nan)),
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


def network(**parts: Any) -> Model:
    usual: dict[str, Any] = {
        "init": lambda key: {"w": jnp.zeros((3, 2))},
        "apply": lambda params, features, key: features @ params["w"],
        "loss": lambda outputs, labels: outputs[:, 0] - labels,
        "correct": lambda outputs, labels: outputs[:, 0] > labels,
    }
    return Model(**usual | parts)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"loss": lambda o, y: (o[:, 0] - y).mean()},
            r"loss .* not float32\[\]",
        ),
        ({"correct": lambda o, y: o > y[:, None]}, r"correct must .*not bool\[2, 2\]"),
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
    with pytest.raises(InputError, match=f"^model: the model's .*{words}"):
        rehearse(config, data())


def test_a_bug_in_a_model_is_no_misfit(own):
    """A model of ours that raises does not fit the data; one's own has a bug."""

    def loss(outputs: Any, labels: Any) -> Any:
        return outputs.no_such_thing

    own("model", lambda task: network(loss=loss), context=1)
    with pytest.raises(AttributeError) as caught:
        rehearse(dataclasses.replace(CONFIG, model="mine"), data())
    assert "raised in the model's loss" in caught.value.__notes__
    assert caught.traceback[-1].name == "loss"


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
        ("algorithm", "algorithm", 5, "the algorithm must be an Algorithm"),
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
        patch.setattr("fedjax_compress.simulate.compiling.compile_program", None)
        simulator.advance(state, 1)


def test_a_stage_whose_decode_has_another_shape(own):
    def decode(carrier: Any, side: Any, key: Any) -> Any:
        return side["x"].symbols[..., None]

    stage = Stage(
        lambda shape: (), lambda x, s, coin: (None, {"x": wire.raw(x)}, s), decode
    )
    own("stage", lambda: stage)
    with pytest.raises(InputError, match=r"stage's decode must .*, not float32\[2, 1"):
        first_round(dataclasses.replace(CONFIG, uplink="mine"))


def test_a_local_update_of_ones_own(own):
    def run(params: Any, state: Any, shard: Any, key: Any) -> Any:
        update = jax.tree.map(lambda p: p[..., None], params)
        return update, state, {"loss": jnp.zeros(()), "examples": jnp.ones(())}

    own("local", lambda model: LocalUpdate(lambda params: (), run), context=1)
    with pytest.raises(InputError, match="the update of the local update's run must"):
        first_round(dataclasses.replace(CONFIG, local="mine"))
