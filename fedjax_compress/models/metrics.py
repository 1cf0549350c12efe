"""Figures as sums that are finished at the end: exact over batches and clients."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.models.losses import (
    check_classes,
    frames_of,
    pad_of,
    paired,
    scored,
    weight_of,
)
from fedjax_compress.models.speech.decoding import greedy_ctc
from fedjax_compress.models.speech.word_errors import error_rates
from fedjax_compress.models.sums import divided, ratio, weighed
from fedjax_compress.typing import (
    Array,
    Columns,
    Counted,
    Metric,
    Model,
    Params,
    Shard,
    Task,
    Tree,
)

_BLOCK = 64
"""Rows that are scored together."""


def metrics_for(task: Task, pad: int | None = None) -> dict[str, Metric]:
    """The usual figures of a task; the first is the one to plot."""
    if task.predicts == "class":
        return {"accuracy": accuracy()}
    if task.predicts == "several":
        return {"f1": f1(), "auc": auc()}
    if task.predicts == "number":
        return {"squared_error": squared_error(), "absolute_error": absolute_error()}
    if task.predicts == "sequence":
        return error_rates(task, _best_path)
    symbol = pad_of(task, pad)
    found = {"accuracy": token_accuracy(symbol)}
    return found if task.tokens else found | {"iou": iou(task.classes, symbol)}


def accuracy() -> Metric:
    """Share of rows whose largest output is that of the label (first of equals)."""

    def count(params: Params, columns: Columns, outputs: Array) -> Tree:
        return weighed(_right(outputs, columns["labels"], 1), columns)

    return Metric(count, ratio, "higher", "%")


def token_accuracy(pad: int = 0) -> Metric:
    """Share of right positions of all that are scored, see ``losses.scored``."""

    def count(params: Params, columns: Columns, outputs: Array) -> Tree:
        counts = scored(columns, pad).astype(jnp.float32)
        right = _right(outputs, columns["labels"], counts.ndim) * counts
        along = tuple(range(1, counts.ndim))
        return weighed(jnp.sum(right, along), columns, jnp.sum(counts, along))

    return Metric(count, ratio, "higher", "%")


def squared_error() -> Metric:
    """Mean of (output - label)^2 over rows and numbers."""

    def count(params: Params, columns: Columns, outputs: Array) -> Tree:
        return weighed(jnp.mean(_errors(outputs, columns) ** 2, axis=1), columns)

    return Metric(count, ratio, "lower")


def absolute_error() -> Metric:
    """Mean of |output - label| over rows and numbers."""

    def count(params: Params, columns: Columns, outputs: Array) -> Tree:
        found = jnp.abs(_errors(outputs, columns))
        return weighed(jnp.mean(found, axis=1), columns)

    return Metric(count, ratio, "lower")


def f1(threshold: float = 0.0) -> Metric:
    """2 TP / (2 TP + FP + FN) over all rows and classes (micro); 0 where none is true.

    Args:
      threshold: of an output above which a class is predicted; 0 for logits.
    """

    def count(params: Params, columns: Columns, outputs: Array) -> Tree:
        scores, labels = paired(outputs, columns["labels"])
        said, true = scores > threshold, labels > 0
        kinds = said & true, said & ~true, ~said & true
        return [weight_of(columns) * _number(kind) for kind in kinds]

    def finish(sums: Tree) -> Array:
        right, wrong, missed = sums
        return divided(2 * right, 2 * right + wrong + missed)

    return Metric(count, finish, "higher", "%")


def auc(bins: int = 512) -> Metric:
    """Area under the ROC curve over all rows and classes (micro), from histograms.

    Scores are put into ``bins`` equal intervals of the sigmoid of the outputs; pairs
    within one count half, so the error is at most half their share of all pairs.

    Args:
      bins: at least 2; a row's counts take two times as many numbers.
    """
    if bins < 2:
        raise InputError(f"bins must be at least 2, not {bins}")

    def count(params: Params, columns: Columns, outputs: Array) -> Tree:
        logits, labels = paired(outputs, columns["labels"])
        rows, true = len(labels), labels > 0
        scores = jax.nn.sigmoid(logits) * bins
        place = jnp.clip(scores.astype(jnp.int32), 0, bins - 1)
        row = jnp.arange(rows)[:, None]
        weight = weight_of(columns)[:, None]
        empty = jnp.zeros((rows, bins), jnp.float32)
        return [
            empty.at[row, place].add(weight * kind.astype(jnp.float32))
            for kind in (true, ~true)
        ]

    def finish(sums: Tree) -> Array:
        positive, negative = sums
        below = jnp.cumsum(negative) - negative
        won = jnp.sum(positive * (below + 0.5 * negative))
        return divided(won, jnp.sum(positive) * jnp.sum(negative))

    return Metric(count, finish, "higher", "%")


def iou(classes: int, pad: int = -1) -> Metric:
    """Mean over classes that occur of |said and true| / |said or true| (Jaccard).

    Args:
      classes: their number.
      pad: label of positions that are not scored, see ``losses.scored``.
    """

    def count(params: Params, columns: Columns, outputs: Array) -> Tree:
        check_classes(outputs, columns["labels"], outputs.ndim - 1)
        shape = (outputs.shape[0], -1)
        counts = scored(columns, pad).reshape(shape)[..., None]
        said, true = (
            (jax.nn.one_hot(x.reshape(shape), classes, dtype=jnp.float32) > 0) & counts
            for x in (jnp.argmax(outputs, axis=-1), columns["labels"])
        )
        weight = weight_of(columns)[:, None]
        return [
            weight * jnp.sum(kind.astype(jnp.float32), axis=1)
            for kind in (said & true, said | true)
        ]

    def finish(sums: Tree) -> Array:
        both, either = sums
        occurs = either > 0
        shares = jnp.where(occurs, both / jnp.where(occurs, either, 1.0), 0.0)
        return divided(jnp.sum(shares), jnp.sum(occurs.astype(jnp.float32)))

    return Metric(count, finish, "higher", "%")


def _best_path(params: Params, columns: Columns, outputs: Array) -> tuple[Array, Array]:
    """Symbols of the likeliest one at each frame, see ``losses.connectionist``."""
    return greedy_ctc(outputs, frames_of(outputs, columns))


def _right(outputs: Array, labels: Array, axes: int) -> Array:
    """1 where the largest output is that of the label, float32."""
    check_classes(outputs, labels, axes)
    right = jnp.argmax(outputs, axis=-1) == labels.astype(jnp.int32)
    return right.astype(jnp.float32)


def _errors(outputs: Array, columns: Columns) -> Array:
    """Output minus label, float32 [batch, numbers]."""
    found, wanted = paired(outputs, columns["labels"])
    return found - wanted


def _number(found: Array) -> Array:
    """How many are true in each row, float32 [batch]."""
    return jnp.sum(found.astype(jnp.float32), axis=1)


def on_shard(model: Model, params: Params, shard: Shard) -> tuple[Array, Array]:
    """The model's first figure on one client's rows, and what these count for.

    Works under jit and vmap.
    """
    metric = next(iter(model.metrics.values()))

    def count(columns: Columns) -> tuple[Tree, Array]:
        outputs = model.apply(params, columns, None)
        weight = model.losses(outputs, columns)[1]
        return metric.count(params, columns, outputs), weight

    sums, weight = _added(count, shard)
    return metric.finish(sums), weight


def counted(metric: Metric, model: Model, params: Params, shard: Shard) -> Counted:
    """A metric's sums over one client's rows, for the metrics of a report.

    Works under jit and vmap.

    Args:
      metric: such as ``f1()``.
      model: whose outputs are counted, as in evaluation.
      params: of the model.
      shard: the client's rows.
    """

    def count(columns: Columns) -> Tree:
        return metric.count(params, columns, model.apply(params, columns, None))

    return Counted(metric, _added(count, shard))


def _added(count: Callable[[Columns], Tree], shard: Shard) -> Tree:
    """What is counted in each row, leaves [rows, ...], added up over a client's."""

    def add(i: Array, sums: Tree) -> Tree:
        index = i * _BLOCK + jnp.arange(_BLOCK, dtype=jnp.int32)
        batch = shard.take(index, index < shard.size)
        return jax.tree.map(
            lambda s, x: s + jnp.sum(x * _beside(batch.mask, x), axis=0),
            sums,
            count(batch.columns),
        )

    few = shard.take(jnp.zeros(1, jnp.int32), jnp.zeros(1, bool))
    shapes = jax.eval_shape(count, few.columns)
    start = jax.tree.map(lambda s: jnp.zeros(s.shape[1:], jnp.float32), shapes)
    blocks = (shard.largest + _BLOCK - 1) // _BLOCK
    return jax.lax.fori_loop(0, blocks, add, start)


def _beside(mask: Array, found: Array) -> Array:
    """The mask of rows with as many axes as what is found of them."""
    return mask.reshape(-1, *(1,) * (found.ndim - 1))
