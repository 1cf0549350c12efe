"""Evaluation against plain numpy, on a model whose answers are known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.clients import ClientData, group
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import ClientEvaluator, Evaluator
from fedjax_compress.typing import Model

# Predicts the sign of the single feature times the single parameter.
MODEL = Model(
    init=lambda key: jnp.ones(()),
    apply=lambda params, features, key: params * features[:, 0],
    loss=lambda outputs, labels: jnp.square(outputs - labels),
    correct=lambda outputs, labels: ((outputs > 0) == (labels > 0)).astype(jnp.float32),
)
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(53, 1)).astype(np.float32)
LABELS = RNG.choice([-1, 1], 53).astype(np.int32)
RIGHT = (FEATURES[:, 0] > 0) == (LABELS > 0)


@pytest.mark.parametrize("batch", [1, 7, 53, 100])
def test_means_do_not_depend_on_the_batch(batch):
    found = Evaluator(MODEL, FEATURES, LABELS, batch)(jnp.ones(()))
    loss = np.square(FEATURES[:, 0].astype(np.float64) - LABELS)
    np.testing.assert_allclose(found["test_loss"], loss.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["test_accuracy"], RIGHT.mean(), rtol=1e-12)
    other = Evaluator(MODEL, FEATURES, LABELS, batch)(-jnp.ones(()))
    np.testing.assert_allclose(other["test_accuracy"], 1 - RIGHT.mean(), rtol=1e-12)


def test_each_client_counts_once():
    owner = RNG.integers(0, 6, 53).astype(np.int32)
    owner[owner == 2] = 3  # client 2 has no rows and is left out
    data = group(FEATURES, LABELS, owner, 6)
    found = ClientEvaluator(MODEL, data, batch=8)(jnp.ones(()))
    each = [RIGHT[owner == c].mean() for c in range(6) if c != 2]
    np.testing.assert_allclose(found["client_accuracy_mean"], np.mean(each))
    np.testing.assert_allclose(found["client_accuracy_p10"], np.percentile(each, 10))


def test_clients_that_name_their_rows_are_scored_on_those():
    owner = np.sort(RNG.integers(0, 6, 53)).astype(np.int32)
    data = group(FEATURES, LABELS, owner, 6)
    order = RNG.permutation(53).astype(np.int32)
    back = np.argsort(order).astype(np.int32)
    pool = ClientData(FEATURES[order], LABELS[order], data.offsets, back)
    wanted = ClientEvaluator(MODEL, data)(jnp.ones(()))
    assert ClientEvaluator(MODEL, pool)(jnp.ones(())) == wanted


def test_nothing_to_evaluate_on_is_refused():
    with pytest.raises(InputError, match="test set is empty"):
        Evaluator(MODEL, FEATURES[:0], LABELS[:0])
