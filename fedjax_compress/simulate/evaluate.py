"""Evaluation of a model: on the server's test set, and per client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.checks import parts as checked
from fedjax_compress.clients import ClientData
from fedjax_compress.data.dataset import check_lengths
from fedjax_compress.errors import InputError
from fedjax_compress.models.metrics import on_shard, ratio
from fedjax_compress.typing import (
    Array,
    ClientState,
    Columns,
    Metric,
    Model,
    Params,
    Tree,
    rows_of,
)


class Scores(NamedTuple):
    """What was found of each row, float64 [rows, ...].

    Attributes:
      loss: (its value, what the row counts for).
      counts: of each metric, a tree.
    """

    loss: tuple[Any, Any]
    counts: dict[str, Tree]


class Evaluator:
    """Loss and metrics over a fixed set of examples, in batches, compiled once.

    Args:
      model: the model.
      columns: [rows, ...] each, host arrays; kept on the device in their own dtype.
      batch: rows a batch; the last one is filled and masked.

    Raises:
      InputError: no rows, or not as many labels as features; or the model's losses or
        a metric gives another shape than [batch], found by tracing them once.
    """

    def __init__(self, model: Model, columns: Columns, batch: int = 128):
        check_lengths("rows to evaluate on", columns)
        self.rows = rows_of(columns)
        if not self.rows:
            raise InputError("the test set is empty: nothing to evaluate on")
        self.model = model = checked.model(model)
        batch = min(batch, self.rows)
        batches = -(-self.rows // batch)
        fill = np.arange(batches * batch) % self.rows
        self._columns = {
            name: jnp.asarray(x[fill].reshape(batches, batch, *x.shape[1:]))
            for name, x in columns.items()
        }

        def one(params: Params, columns: Columns) -> tuple:
            outputs = model.apply(params, columns, None)
            counts = {
                name: metric.count(params, columns, outputs)
                for name, metric in model.metrics.items()
            }
            return params, Scores(model.losses(outputs, columns), counts)

        @jax.jit
        def score(params: Params, columns: Columns) -> Scores:
            return jax.lax.scan(one, params, columns)[1]

        self._score = score
        # The first evaluation takes up what is traced here.
        start = jax.eval_shape(model.init, jax.random.key(0))
        jax.eval_shape(score, start, self._columns)

    def rows_scored(self, params: Params) -> Scores:
        """What is found of every row."""
        found = jax.device_get(self._score(params, self._columns))

        def rows(x: np.ndarray) -> np.ndarray:
            return np.asarray(x, np.float64).reshape(-1, *x.shape[2:])[: self.rows]

        scores: Scores = jax.tree.map(rows, found)
        return scores

    def __call__(self, params: Params) -> dict[str, float]:
        """``test_loss`` and ``test_NAME`` of each metric, over all rows."""
        scores = self.rows_scored(params)
        found = {"test_loss": _mean(*scores.loss)}
        for name, metric in self.model.metrics.items():
            sums = jax.tree.map(lambda x: x.sum(0), scores.counts[name])
            found[f"test_{name}"] = finished(metric, sums)
        return found


def _mean(value: np.ndarray, weight: np.ndarray) -> float:
    """Of rows that count for something; NaN if none does."""
    total = weight.sum()
    return float((value * weight).sum() / total) if total else float("nan")


def finished(metric: Metric, sums: Tree) -> float:
    """The figure of sums, float64 on the host where the metric is a plain ratio."""
    leaves: list[Any] = jax.tree.leaves(sums)
    if metric.finish is ratio and len(leaves) == 2:
        return float(leaves[0] / leaves[1]) if leaves[1] else 0.0
    exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), sums)
    return float(metric.finish(exact))


def client_scores(name: str, better: str, of: str = "client") -> tuple[str, str]:
    """What a metric's mean over clients is called, and the score of the worst tenth.

    Args:
      name: of the metric.
      better: ``higher`` or ``lower``.
      of: ``client``, the server's model; ``personal``, each client's own.
    """
    worst = 10 if better == "higher" else 90
    return f"{of}_{name}_mean", f"{of}_{name}_p{worst}"


class ClientEvaluator:
    """A model's first figure on each client's rows: mean and 10th percentile.

    Args:
      model: the model.
      data: test rows by client, host arrays; clients without rows, or
        with none that counts, are left out.
      batch: rows a batch.
    """

    def __init__(self, model: Model, data: ClientData, batch: int = 128):
        self._all = Evaluator(model, data.taken(slice(None)), batch)
        self.name, self._metric = next(iter(model.metrics.items()))
        sizes = data.sizes
        self._has = np.flatnonzero(sizes)
        self._starts = np.asarray(data.offsets)[:-1][self._has]

    def figures(self, params: Params) -> np.ndarray:
        """The figure of each client that has rows that count, float64."""
        scores = self._all.rows_scored(params)
        some = np.add.reduceat(scores.loss[1], self._starts) > 0
        sums = jax.tree.map(
            lambda x: np.add.reduceat(x, self._starts, axis=0)[some],
            scores.counts[self.name],
        )
        leaves, structure = jax.tree.flatten(sums)
        each = [jax.tree.unflatten(structure, of) for of in zip(*leaves, strict=True)]
        return np.asarray([finished(self._metric, x) for x in each], np.float64)

    def __call__(self, params: Params) -> dict[str, float]:
        """``client_NAME_mean``, each client counting once, and ``client_NAME_p10``.

        The 10th percentile is that of the worst clients: where lower is better, the
        90th.
        """
        names = client_scores(self.name, self._metric.better)
        return _spread(names, self.figures(params), self._metric)


def _spread(
    names: tuple[str, str], found: np.ndarray, metric: Metric
) -> dict[str, float]:
    """The mean of what clients score, and the score of the worst tenth."""
    share = 10 if metric.better == "higher" else 90
    scores = float("nan"), float("nan")
    if len(found):
        scores = float(found.mean()), float(np.percentile(found, share))
    return dict(zip(names, scores, strict=True))


class PersonalEvaluator:
    """A model's first figure on each client's rows, by its own parameters.

    Args:
      model: the model.
      data: test rows by client, host arrays; clients without rows, or
        with none that counts, are left out.
      personal: ``Algorithm.personal``.
      together: clients whose states are on the device at once.

    Raises:
      InputError: no client has a row, or the model is none.
    """

    def __init__(
        self,
        model: Model,
        data: ClientData,
        personal: Callable[[Params, ClientState], Params],
        together: int = 16,
    ):
        self._has = np.flatnonzero(data.sizes).astype(np.int32)
        if not len(self._has):
            raise InputError("no client has a row: nothing to evaluate on")
        model = checked.model(model)
        self.name, self._metric = next(iter(model.metrics.items()))
        self._together = min(together, len(self._has))
        self._data: ClientData = jax.tree.map(jnp.asarray, data)

        @jax.jit
        def score(
            params: Params, states: ClientState, ids: Array, data: ClientData
        ) -> tuple[Array, Array]:
            def one(given: tuple[ClientState, Array]) -> tuple[Array, Array]:
                own = personal(params, given[0])
                return on_shard(
                    model, own, data.shard(given[1], data.size_of(given[1]))
                )

            return jax.lax.map(one, (states, ids))

        self._score = score

    def figures(
        self, params: Params, states: Callable[[np.ndarray], ClientState]
    ) -> np.ndarray:
        """The figure of each client that has rows that count, float64.

        Args:
          params: those of the network.
          states: ids int32 [n] -> states of these clients, leaves [n, ...].
        """
        found = []
        for start in range(0, len(self._has), self._together):
            ids = self._has[start : start + self._together]
            filled = np.resize(ids, self._together)
            scores, weights = self._score(params, states(filled), filled, self._data)
            some = np.asarray(weights)[: len(ids)] > 0
            found.append(np.asarray(scores, np.float64)[: len(ids)][some])
        return np.concatenate(found)

    def __call__(
        self, params: Params, states: Callable[[np.ndarray], ClientState]
    ) -> dict[str, float]:
        """``personal_NAME_mean`` and ``..._p10``, as those of ``ClientEvaluator``."""
        names = client_scores(self.name, self._metric.better, "personal")
        return _spread(names, self.figures(params, states), self._metric)
