"""Evaluation of a model: on the server's test set, and per client."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import checked
from fedjax_compress.clients import ClientData
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Model, Params


class Evaluator:
    """Mean loss and accuracy over a fixed set of examples, in batches, compiled once.

    Args:
      model: the model.
      features: [rows, ...], host array; kept on the device in its own dtype.
      labels: [rows, ...].
      batch: rows a batch; the last one is filled and masked.

    Raises:
      InputError: no rows, or not as many labels as features; or the model's loss or
        correct gives another shape than [batch], found by tracing them once.
    """

    def __init__(
        self, model: Model, features: np.ndarray, labels: np.ndarray, batch: int = 128
    ):
        self.rows = len(labels)
        if not self.rows:
            raise InputError("the test set is empty: nothing to evaluate on")
        if len(features) != self.rows:
            raise InputError(
                f"there are {len(features)} rows of features but {self.rows} labels "
                "to evaluate on"
            )
        model = checked.model(model)
        batch = min(batch, self.rows)
        batches = -(-self.rows // batch)
        fill = np.arange(batches * batch) % self.rows
        shape = (batches, batch)
        self._features = jnp.asarray(
            features[fill].reshape(*shape, *features.shape[1:])
        )
        self._labels = jnp.asarray(labels[fill].reshape(*shape, *labels.shape[1:]))

        def one(params: Params, batch: tuple[Array, Array]) -> tuple:
            outputs = model.apply(params, batch[0], None)
            score = model.loss(outputs, batch[1]), model.correct(outputs, batch[1])
            return params, score

        @jax.jit
        def score(params: Params, features: Array, labels: Array) -> tuple:
            return jax.lax.scan(one, params, (features, labels))[1]

        self._score = score
        # The first evaluation takes up what is traced here.
        start = jax.eval_shape(model.init, jax.random.key(0))
        jax.eval_shape(score, start, self._features, self._labels)

    def rows_scored(self, params: Params) -> tuple[np.ndarray, np.ndarray]:
        """Loss and correctness of every row, float64 [rows]."""
        found = jax.device_get(self._score(params, self._features, self._labels))
        loss, correct = (
            np.asarray(x, np.float64).reshape(-1)[: self.rows] for x in found
        )
        return loss, correct

    def __call__(self, params: Params) -> dict[str, float]:
        """``test_loss`` and ``test_accuracy``, means over all rows."""
        loss, correct = self.rows_scored(params)
        return {
            "test_loss": float(loss.mean()),
            "test_accuracy": float(correct.mean()),
        }


class ClientEvaluator:
    """Accuracy of one model on each client's rows: mean and 10th percentile.

    Args:
      model: the model.
      data: test rows by client, host arrays; clients without rows are left out.
      batch: rows a batch.
    """

    def __init__(self, model: Model, data: ClientData, batch: int = 128):
        features, labels = np.asarray(data.features), np.asarray(data.labels)
        if data.rows is not None:
            features, labels = features[data.rows], labels[data.rows]
        self._all = Evaluator(model, features, labels, batch)
        offsets = np.asarray(data.offsets)
        self._sizes = np.diff(offsets)
        self._client = np.repeat(np.arange(len(self._sizes)), self._sizes)

    def accuracies(self, params: Params) -> np.ndarray:
        """Accuracy of each client that has rows, float64."""
        _, correct = self._all.rows_scored(params)
        total = np.bincount(self._client, correct, minlength=len(self._sizes))
        has = self._sizes > 0
        return total[has] / self._sizes[has]

    def __call__(self, params: Params) -> dict[str, float]:
        """``client_accuracy_mean`` (each client counts once) and ``..._p10``."""
        found = self.accuracies(params)
        return {
            "client_accuracy_mean": float(found.mean()),
            "client_accuracy_p10": float(np.percentile(found, 10)),
        }
