"""The baselines compute what they say: FedAvg in a loop, and SGD without clients."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from fedjax_compress.bench import Case, Workload, baselines, pools, workload
from fedjax_compress.bench.contender import engine
from fedjax_compress.typing import Params


@pytest.fixture(scope="module")
def given() -> Workload:
    return workload("W2", clients=3)


def softmax_step(params: Params, x: np.ndarray, y: np.ndarray, lr: float) -> Params:
    """One step of multinomial logistic regression, by its gradient in closed form."""
    kernel, bias = params
    logits = x.reshape(len(x), -1) @ kernel + bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    error = odds / odds.sum(1, keepdims=True)
    error[np.arange(len(y)), y] -= 1
    error /= len(y)
    return kernel - lr * x.reshape(len(x), -1).T @ error, bias - lr * error.sum(0)


def start(given: Workload) -> Any:
    output = given.params["output"]
    return tuple(output[k].astype(np.float64) for k in ("kernel", "bias"))


def steps(given: Workload, params: Any, rows: np.ndarray) -> Any:
    for i in range(0, len(rows), given.batch):
        part = rows[i : i + given.batch]
        x, y = (np.asarray(given.data.columns[n])[part] for n in ("features", "labels"))
        params = softmax_step(params, x.astype(np.float64), y, given.lr)
    return params


def test_loop_and_engine_are_federated_averaging(given: Workload) -> None:
    """Two rounds, against plain numpy in float64."""
    wanted = start(given)
    for number in range(2):
        ids = given.cohort(number)
        trained = [steps(given, wanted, given.rows(c)) for c in ids]
        share = given.sizes[ids] / given.sizes[ids].sum()
        wanted = tuple(
            sum(s * t[i] for s, t in zip(share, trained, strict=True)) for i in (0, 1)
        )
    for make in (baselines.loop, engine):
        contender = make(Case("W2", 3), given)
        assert contender.run(0, 1) > 0
        assert contender.run(1, 1) > 0
        found = contender.params()["output"]
        np.testing.assert_allclose(found["kernel"], wanted[0], atol=2e-6)
        np.testing.assert_allclose(found["bias"], wanted[1], atol=2e-6)
        assert contender.samples(1) == given.sizes[given.cohort(1)].sum()


@pytest.mark.parametrize("form", ["step", "loop"])
def test_both_forms_of_the_bound_are_plain_sgd(given: Workload, form: str) -> None:
    pool = baselines.columns(given)
    rows = given.rows(0)[: 2 * given.batch]
    if form == "step":
        program = baselines._by_step("", given.model, given, pool)
    else:
        program = baselines._by_loop("", given.model, given, pool, most=5)
    assert program.name == form
    assert program.compile_seconds > 0
    own = jax.tree.map(jax.numpy.array, given.params)
    found = program.run(own, rows.reshape(2, -1))["output"]
    wanted = steps(given, start(given), rows)
    np.testing.assert_allclose(found["kernel"], wanted[0], atol=2e-6)
    np.testing.assert_allclose(found["bias"], wanted[1], atol=2e-6)


def test_the_bound_keeps_the_fastest_form(given: Workload) -> None:
    contender = baselines.bound(Case("W2", 3, contender="bound"), given)
    facts = contender.about()
    tried = facts["tried_samples_per_second"]
    assert set(tried) == {"step", "loop"}
    assert facts["form"] == max(tried, key=tried.get)
    before = np.array(contender.params()["output"]["bias"])
    contender.run(0, 2)
    assert not np.array_equal(before, contender.params()["output"]["bias"])
    whole = given.samples(1) // given.batch * given.batch
    assert contender.samples(1) == whole


def test_with_a_clock_all_who_were_invited_count(given: Workload) -> None:
    spec = "over_selection(1.5) | devices(phone, sigma=1)"
    contender = engine(Case("W2", 3, clock=spec), given)
    assert contender.run(0, 1) > 0
    # ceil(1.5 * 3) of them train, whoever the round waits for.
    invited = given.sampling(pools.SEED, 0, given.sizes, 5)
    assert contender.samples(0) == given.sizes[invited].sum()
