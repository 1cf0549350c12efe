"""Evaluation against plain numpy, on a model whose answers are known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.clients import ClientData, group
from fedjax_compress.errors import InputError
from fedjax_compress.models.metrics import ratio
from fedjax_compress.simulate import ClientEvaluator, Evaluator
from fedjax_compress.typing import Metric, Model


def losses(outputs, columns):
    rows = outputs.shape[0]
    weights = columns.get("weights", jnp.ones(rows))
    return jnp.square(outputs - columns["labels"].astype(jnp.float32)), weights


def right(params, columns, outputs):
    found = (outputs > 0) == (columns["labels"] > 0)
    return found.astype(jnp.float32), jnp.ones(outputs.shape[0])


# Predicts the sign of the single feature times the single parameter.
MODEL = Model(
    init=lambda key: jnp.ones(()),
    apply=lambda params, columns, key: params * columns["features"][:, 0],
    losses=losses,
    metrics={"accuracy": Metric(right, ratio, "higher", "%")},
)
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(53, 1)).astype(np.float32)
LABELS = RNG.choice([-1, 1], 53).astype(np.int32)
COLUMNS = {"features": FEATURES, "labels": LABELS}
RIGHT = (FEATURES[:, 0] > 0) == (LABELS > 0)
LOSSES = np.square(FEATURES[:, 0].astype(np.float64) - LABELS)


@pytest.mark.parametrize("batch", [1, 7, 53, 100])
def test_means_do_not_depend_on_the_batch(batch):
    found = Evaluator(MODEL, COLUMNS, batch)(jnp.ones(()))
    np.testing.assert_allclose(found["test_loss"], LOSSES.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["test_accuracy"], RIGHT.mean(), rtol=1e-12)
    other = Evaluator(MODEL, COLUMNS, batch)(-jnp.ones(()))
    np.testing.assert_allclose(other["test_accuracy"], 1 - RIGHT.mean(), rtol=1e-12)


@pytest.mark.parametrize("batch", [7, 53])
def test_rows_count_for_what_the_model_says(batch):
    weights = RNG.integers(0, 4, 53).astype(np.float32)
    found = Evaluator(MODEL, COLUMNS | {"weights": weights}, batch)(jnp.ones(()))
    expected = (LOSSES * weights).sum() / weights.sum()
    np.testing.assert_allclose(found["test_loss"], expected, rtol=1e-6)


def test_without_a_row_that_counts_there_is_no_loss():
    nothing = np.zeros(53, np.float32)
    found = Evaluator(MODEL, COLUMNS | {"weights": nothing})(jnp.ones(()))
    assert np.isnan(found["test_loss"])


def test_all_metrics_are_found_and_finished_once():
    """A figure that is no ratio, over batches of which the last is filled up: the
    share of right answers among those that are said to be positive."""

    def count(params, columns, outputs):
        said = (outputs > 0).astype(jnp.float32)
        return {"said": said, "true": said * right(params, columns, outputs)[0]}

    precision = Metric(count, lambda sums: sums["true"] / sums["said"])
    both = MODEL._replace(metrics=MODEL.metrics | {"precision": precision})
    found = Evaluator(both, COLUMNS, 7)(jnp.ones(()))
    said = FEATURES[:, 0] > 0
    assert list(found) == ["test_loss", "test_accuracy", "test_precision"]
    np.testing.assert_allclose(found["test_precision"], RIGHT[said].mean(), rtol=1e-6)


def test_each_client_counts_once():
    owner = RNG.integers(0, 6, 53).astype(np.int32)
    owner[owner == 2] = 3  # client 2 has no rows and is left out
    data = group(COLUMNS, owner, 6)
    found = ClientEvaluator(MODEL, data, batch=8)(jnp.ones(()))
    each = [RIGHT[owner == c].mean() for c in range(6) if c != 2]
    np.testing.assert_allclose(found["client_accuracy_mean"], np.mean(each))
    np.testing.assert_allclose(found["client_accuracy_p10"], np.percentile(each, 10))


def test_where_lower_is_better_the_worst_clients_are_those_above():
    owner = RNG.integers(0, 6, 53).astype(np.int32)

    def count(params, columns, outputs):
        return losses(outputs, columns)

    model = MODEL._replace(metrics={"error": Metric(count, ratio, "lower")})
    found = ClientEvaluator(model, group(COLUMNS, owner, 6))(jnp.ones(()))
    each = [LOSSES[owner == c].mean() for c in range(6)]
    assert list(found) == ["client_error_mean", "client_error_p90"]
    np.testing.assert_allclose(found["client_error_mean"], np.mean(each), rtol=1e-6)
    expected = np.percentile(each, 90)
    np.testing.assert_allclose(found["client_error_p90"], expected, rtol=1e-6)


def test_clients_that_name_their_rows_are_scored_on_those():
    owner = np.sort(RNG.integers(0, 6, 53)).astype(np.int32)
    data = group(COLUMNS, owner, 6)
    order = RNG.permutation(53).astype(np.int32)
    back = np.argsort(order).astype(np.int32)
    pool = ClientData({n: x[order] for n, x in COLUMNS.items()}, data.offsets, back)
    wanted = ClientEvaluator(MODEL, data)(jnp.ones(()))
    assert ClientEvaluator(MODEL, pool)(jnp.ones(())) == wanted


def test_nothing_to_evaluate_on_is_refused():
    with pytest.raises(InputError, match="test set is empty"):
        Evaluator(MODEL, {n: x[:0] for n, x in COLUMNS.items()})
