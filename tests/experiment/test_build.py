"""From a configuration to parts: what is refused before anything compiles."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from rows import changed, two_classes

from fedjax_compress.clients import client_data
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.experiment import Config, build, fingerprint
from fedjax_compress.experiment.components import network
from fedjax_compress.typing import Task


def small(rows: int = 20) -> Dataset:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows, 3)).astype(np.float32)
    owners = np.arange(rows, dtype=np.int32) % 4
    return changed(two_classes(rows, features), train_clients=owners)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("model", "mpl", "model: unknown model 'mpl'; did you mean 'mlp'?"),
        ("data", "digit", "data: unknown data 'digit'; did you mean 'digits'?"),
        ("uplink", "hadamrd", "did you mean 'hadamard'?"),
        ("uplink", "identity | unifrm(bits=2)", "did you mean 'uniform'?"),
        ("downlink", "uniform(bit=2)", "did you mean 'bits'?"),
        ("local", "sgd(lr=fast)", "lr must be float, not 'fast'"),
        ("server", "fedavg | fedavg", "a server is one call, not a pipe"),
        ("algorithm", "fedavg | fedavg", "an algorithm is one call, not a pipe"),
        ("sampling", "weighted(3)", "weighted takes no options"),
        ("model", "mlp | mlp", "a model is one call, not a pipe"),
        ("partition", "dirichlet(alpha=-1)", "alpha must be above 0"),
        ("sampling", "uniformly", "did you mean 'uniform'?"),
        ("aggregate", "median", "aggregate: unknown aggregate 'median'"),
        ("algorithm", "fedavgg", "did you mean 'fedavg'?"),
    ],
)
def test_specs_are_checked_with_a_caret(name: str, text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        build.check_specs(dataclasses.replace(Config(), **{name: text}))
    reason, shown, caret = str(caught.value).split("\n")
    assert words in reason
    assert reason.startswith(f"{name}: ")
    assert shown == f"  {text}"
    assert caret.strip() == "^"


def test_cohort_and_clients() -> None:
    config = Config(partition="natural", cohort=5)
    with pytest.raises(InputError, match="cohort can be at most 4"):
        build.deal(config, small())
    with pytest.raises(InputError, match="ask for 0"):
        build.deal(Config(partition="natural", clients=9, cohort=2), small())
    with pytest.raises(InputError, match="cannot share"):
        build.deal(Config(clients=30), small())


def test_empty_client_is_refused() -> None:
    owners = np.array([0, 0, 2, 2] * 5, np.int32)
    dataset = dataclasses.replace(small(), train_clients=owners)
    with pytest.raises(InputError, match=r"empty|missing"):
        build.deal(Config(partition="natural", cohort=2), dataset)


def test_owners_are_read_and_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    usual = client_data.check_owners

    def check(what: str, found: object, rows: int) -> np.ndarray:
        said.append(what)
        return usual(what, found, rows)

    monkeypatch.setattr(client_data, "check_owners", check)
    data, owner = build.deal(Config(partition="natural", cohort=2), small())
    assert said == ["partition: it"]
    np.testing.assert_array_equal(owner, np.arange(20) % 4)
    np.testing.assert_array_equal(data.sizes, [5, 5, 5, 5])


def test_a_model_that_does_not_fit_the_data() -> None:
    with pytest.raises(InputError) as caught:
        build.build_model(Config(model="cnn"), small())
    assert "\n" not in str(caught.value).split("\n  ")[0]
    assert "(3,)" in str(caught.value)


def test_more_devices_than_there_are() -> None:
    count = len(jax.devices())
    config = Config(devices=count + 1, cohort=2, model="logistic", partition="natural")
    with pytest.raises(InputError, match=f"1 to {count}"):
        build.build(config, small())


def test_split_and_model_follow_the_seed() -> None:
    base = Config(clients=4, cohort=2, model="logistic")
    one, same, other = (
        build.build(dataclasses.replace(base, seed=seed), small()) for seed in (1, 1, 2)
    )
    assert fingerprint.digest(one) == fingerprint.digest(same)
    assert fingerprint.digest(one) != fingerprint.digest(other)
    leaves = [jax.tree.leaves(parts.params) for parts in (one, same, other)]
    assert all(np.array_equal(a, b) for a, b in zip(*leaves[:2], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(*leaves[1:], strict=True))


def test_fingerprint_holds_what_changes_numbers() -> None:
    base = Config(clients=4, cohort=2, model="logistic")
    parts = build.build(base, small())
    found = fingerprint.fingerprint(base, parts)
    for free in ("rounds", "checkpoint_every", "keep", "devices"):
        changed = dataclasses.replace(base, **{free: 77})
        assert fingerprint.fingerprint(changed, parts) == found
    for name in ("seed", "uplink", "lanes", "convolution", "local", "data"):
        assert name in found
    for name in ("jax", "platform", "device_kind", "data_sha256"):
        assert found[name]
    # Runs that do not know a later setting go on where it has its default.
    for name, text in (("qat", "binary"), ("augment", "normalise")):
        assert name not in found
        changed = dataclasses.replace(base, **{name: text})
        assert fingerprint.fingerprint(changed, parts) == {**found, name: text}


def test_a_source_of_ones_own_is_scaled_by_the_same_rule() -> None:
    """And a run of an earlier version, which took columns for pixels, is another."""
    config = Config(clients=4, cohort=2, model="logistic")
    base = small()
    rows = (np.arange(60).reshape(20, 3) % 2).astype(np.int64)
    table = changed(base, train_features=rows, test_features=rows)
    for dataset, wanted in ((base, None), (table, 1.0)):
        parts = build.build(config, dataset)
        assert parts.dataset.task.scale == 1
        assert fingerprint.fingerprint(config, parts).get("scale") == wanted
    mixed = changed(base, test_features=rows)
    with pytest.raises(InputError, match=r"float32 in the train .* int64 in the test"):
        build.build(config, mixed)


def test_pixels_are_divided_once_where_a_change_comes_first() -> None:
    task = Task((2, 2, 1), 2, scale=255.0)
    pixels = np.array([0, 51, 102, 255], np.uint8).reshape(1, 2, 2, 1)
    kernel = np.eye(4, 2, k=-2, dtype=np.float32)  # reads the third and fourth pixel
    params = {"output": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}
    for augment, wanted in (
        ("none", (0.4, 1)),
        ("normalise(mean=0.5, std=0.1)", (-1, 5)),
    ):
        model = network(Config(model="logistic", augment=augment), task)
        found = model.apply(params, {"features": pixels}, None)
        np.testing.assert_allclose(found, [wanted], rtol=1e-5)


def test_request_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--other")
    build.request_devices(1)
    assert os.environ["XLA_FLAGS"] == "--other"
    build.request_devices(3)
    flags = os.environ["XLA_FLAGS"]
    assert "--other --xla_force_host_platform_device_count=3 " in flags
    assert "--xla_cpu_collective_call_terminate_timeout_seconds=" in flags
    build.request_devices(5)
    assert os.environ["XLA_FLAGS"] == flags
