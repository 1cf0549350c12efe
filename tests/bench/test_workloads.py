"""The workloads are those whose figures are published: rows, cohorts, losses."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from fedjax_compress import tree
from fedjax_compress.bench import Case, workload
from fedjax_compress.bench.contender import engine
from fedjax_compress.bench.workloads import KINDS
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import Evaluator

NAMES = list(KINDS)
COLUMNS = ("features", "labels")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The definition that the other simulators are measured with."""
    path = Path(__file__).resolve().parents[3] / "shared" / "bench" / "workload.py"
    if not path.is_file():
        pytest.skip("no definition beside the repository (../shared/bench/workload.py)")
    found = importlib.util.spec_from_file_location("reference_workload", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


OURS = {
    "W1": [
        f"{layer}/{kind}"
        for layer in ("conv_1", "conv_2", "dense", "output")
        for kind in ("kernel", "bias")
    ],
    "W2": ["output/kernel", "output/bias"],
    "W3": [
        "embedding/embedding",
        *[
            f"lstm_{i}/{kind}"
            for i in (1, 2)
            for kind in ("kernel", "recurrent", "bias")
        ],
        "output/kernel",
        "output/bias",
    ],
}
"""Our names of the parameters, in the order of the reference's dict."""


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference_bit_for_bit(name: str, reference: ModuleType) -> None:
    ours = workload(name, clients=50)
    theirs = reference.Data(name, 50)
    data = ours.data
    np.testing.assert_array_equal(ours.sizes, theirs.sizes)
    np.testing.assert_array_equal(np.diff(np.asarray(data.offsets)), theirs.sizes)
    np.testing.assert_array_equal(np.asarray(data.rows), np.concatenate(theirs.idx))
    for client in (0, 17, 3399):
        rows = ours.rows(client)
        for column, other in zip(COLUMNS, theirs.client(client), strict=True):
            mine = np.asarray(data.columns[column])[rows]
            np.testing.assert_array_equal(mine, other)
    for column, other in zip(COLUMNS, theirs.eval_set(), strict=True):
        mine = ours.evaluation[column]
        np.testing.assert_array_equal(mine, other)
        assert mine.dtype == other.dtype
    for number in (0, 1, 77):
        np.testing.assert_array_equal(ours.cohort(number), reference.cohort(number, 50))
    wanted = dict(zip(OURS[name], reference.init_params(name).values(), strict=True))
    leaves = dict(
        zip(tree.paths(ours.params), jax.tree.leaves(ours.params), strict=True)
    )
    assert set(leaves) == set(wanted)
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, wanted[path])
        assert leaf.dtype == wanted[path].dtype
    assert ours.flops_per_sample == reference.flops_per_sample(name)
    assert (ours.batch, ours.lr) == (reference.BATCH[name], reference.CLIENT_LR[name])


@pytest.mark.parametrize(
    ("name", "parameters", "megaflops", "initial"),
    [
        ("W1", 1_206_590, 71.6, 4.1343),
        ("W2", 48_670, 0.194, 4.4242),
        ("W3", 820_522, 392.5, None),
    ],
)
def test_what_is_published(
    name: str, parameters: int, megaflops: float, initial: float | None
) -> None:
    """Counts and the loss before training, as published for the other simulators."""
    given = workload(name, clients=1)
    assert tree.count(given.params) == parameters
    assert given.flops_per_sample / 1e6 == pytest.approx(megaflops, rel=3e-3)
    shapes = jax.eval_shape(given.model.init, jax.random.key(0))
    assert tree.shapes(given.params) == tree.shapes(shapes)
    if initial is not None:
        loss = Evaluator(given.model, given.evaluation)(given.params)["test_loss"]
        assert round(loss, 4) == initial


def loss_after_one_round(name: str) -> float:
    given = workload(name, clients=100)
    contender = engine(Case(name, 100), given)
    contender.run(0, 1)
    evaluate = Evaluator(given.model, given.evaluation)
    return evaluate(contender.params())["test_loss"]


def test_a_round_of_w2_reaches_the_published_loss() -> None:
    assert round(loss_after_one_round("W2"), 4) == 4.1648


@pytest.mark.slow
def test_a_round_of_w1_reaches_the_published_loss() -> None:
    assert loss_after_one_round("W1") == pytest.approx(4.1267, abs=1e-4)


def test_a_million_clients_repeat_the_first_ten_thousand() -> None:
    begin = time.perf_counter()
    given = workload("W3", clients=100, population=1_000_000)
    assert time.perf_counter() - begin < 20  # each client drawn afresh takes minutes
    assert given.data.clients == len(given.sizes) == 1_000_000
    few = workload("W3", clients=100, population=20_000)
    np.testing.assert_array_equal(given.sizes[:10_000], few.sizes[:10_000])
    assert not np.array_equal(given.sizes[10_000:20_000], few.sizes[10_000:])
    for client in (0, 9_999):
        np.testing.assert_array_equal(given.rows(client), few.rows(client))
        for copy in (10_000, 990_000):
            np.testing.assert_array_equal(given.rows(client + copy), given.rows(client))
    ids = given.cohort(5)
    assert len(set(ids.tolist())) == 100
    assert ids.max() > 100_000
    np.testing.assert_array_equal(ids, given.cohort(5))


def test_a_population_that_is_no_multiple_ends_in_the_middle() -> None:
    given = workload("W3", clients=1, population=20_003)
    for client in (20_000, 20_002):
        np.testing.assert_array_equal(given.rows(client), given.rows(client - 10_000))
    assert given.data.offsets[-1] == len(np.asarray(given.data.rows))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("w2", 10), "there is no workload 'w2'; did you mean 'W2'?"),
        (("W2", 0), "clients must be at least 1, not 0"),
        (("W2", 10, 9), "population must be at least 10, the clients of a round"),
    ],
)
def test_what_cannot_be_built(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match="^" + words.replace("?", r"\?")):
        workload(*arguments)
