"""Losses of each row and what the row counts for, in float32."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Columns, Outputs, Task

Losses = Callable[[Outputs, Columns], tuple[Array, Array]]
"""(outputs, columns) -> (value, weight), both float32 [batch]."""


def losses_for(task: Task, pad: int | None = None) -> Losses:
    """The usual loss of a task.

    ``class`` and ``positions``: softmax cross-entropy; ``several``: the mean over
    classes of the binary cross-entropy; ``number``: the mean of squared errors. A row
    counts as much as it has positions that are scored, and times its ``weights`` where
    there is such a column.

    Args:
      task: what is predicted.
      pad: the symbol that is not scored, where no ``lengths`` say which positions are;
        None for 0 where features are tokens, else for none.
    """
    each = {
        "class": lambda outputs, columns: cross_entropy(outputs, columns["labels"]),
        "several": lambda outputs, columns: binary_cross_entropy(
            outputs, columns["labels"]
        ),
        "number": lambda outputs, columns: squared_error(outputs, columns["labels"]),
    }
    if task.predicts == "positions":
        symbol = pad_of(task, pad)
        return weighted(
            lambda outputs, columns: token_cross_entropy(
                outputs, columns["labels"], scored(columns, symbol)
            )
        )
    one = each[task.predicts]

    def alone(outputs: Outputs, columns: Columns) -> tuple[Array, Array]:
        value = one(outputs, columns)
        return value, jnp.ones_like(value)

    return weighted(alone)


def weighted(losses: Losses) -> Losses:
    """The losses, whose weights are multiplied by the column ``weights``, if any."""

    def all(outputs: Outputs, columns: Columns) -> tuple[Array, Array]:
        value, weight = losses(outputs, columns)
        if "weights" in columns:
            weight = weight * columns["weights"].astype(jnp.float32)
        return value, weight

    return all


def pad_of(task: Task, pad: int | None) -> int:
    """The symbol that is not scored; -1 for none."""
    return pad if pad is not None else (0 if task.tokens else -1)


def scored(columns: Columns, pad: int = -1) -> Array:
    """Which positions count, bool of the labels' shape: those before a row's
    ``lengths``, where there is such a column, else those whose label is not ``pad``."""
    labels = columns["labels"]
    if "lengths" not in columns:
        return labels != pad
    places = jnp.arange(labels.shape[1]).reshape(1, -1, *(1,) * (labels.ndim - 2))
    lengths = columns["lengths"].reshape(-1, *(1,) * (labels.ndim - 1))
    return jnp.broadcast_to(places < lengths, labels.shape)


def cross_entropy(outputs: Array, labels: Array) -> Array:
    """Softmax cross-entropy of each example, in nats: -log softmax(outputs)[label].

    Args:
      outputs: [batch, classes], logits of any float dtype.
      labels: [batch], integer in 0 .. classes-1.

    Returns:
      float32 [batch].

    Raises:
      InputError: the shapes do not belong together.
    """
    _check(outputs, labels, 1)
    return _negative_log_likelihood(outputs, labels)


def binary_cross_entropy(outputs: Array, labels: Array) -> Array:
    """Mean over classes of the binary cross-entropy, in nats.

    (1 / classes) sum_c log(1 + exp(z_c)) - y_c z_c.

    Args:
      outputs: [batch, classes], logits of any float dtype.
      labels: [batch, classes], 0 or 1; or [batch], integer in 0 .. classes-1, which
        stands for 1 at that class and 0 elsewhere.

    Returns:
      float32 [batch].

    Raises:
      InputError: the shapes do not belong together.
    """
    outputs = outputs.astype(jnp.float32)
    if labels.shape == outputs.shape:
        target = labels.astype(jnp.float32)
    else:
        _check(outputs, labels, 1)
        target = jax.nn.one_hot(labels, outputs.shape[-1], dtype=jnp.float32)
    losses = jax.nn.softplus(outputs) - outputs * target
    return jnp.mean(losses, axis=-1)


def squared_error(outputs: Array, labels: Array) -> Array:
    """Mean of (output - label)^2 of each example.

    Args:
      outputs: [batch] or [batch, numbers], of any float dtype.
      labels: as many numbers a row.

    Returns:
      float32 [batch].

    Raises:
      InputError: the shapes do not belong together.
    """
    return jnp.mean(errors_of(outputs, labels) ** 2, axis=1)


def errors_of(outputs: Array, labels: Array) -> Array:
    """Output minus label, float32 [batch, numbers].

    Raises:
      InputError: another number of labels than of outputs.
    """
    rows = outputs.shape[0]
    if labels.shape[:1] != outputs.shape[:1] or labels.size != outputs.size:
        raise InputError(
            f"outputs of shape {outputs.shape} need as many numbers as labels, not "
            f"{labels.shape}"
        )
    pair = (x.astype(jnp.float32).reshape(rows, -1) for x in (outputs, labels))
    found, wanted = pair
    return found - wanted


def token_cross_entropy(
    outputs: Array, labels: Array, scored: Array
) -> tuple[Array, Array]:
    """Cross-entropy of each row's positions: their mean, and how many they are.

    Args:
      outputs: [batch, positions ..., symbols], logits.
      labels: [batch, positions ...], integer in 0 .. symbols-1.
      scored: bool of the shape of ``labels``.

    Returns:
      float32 [batch]: the mean, 0 for a row of which nothing is scored; and float32
      [batch], the number of positions scored.

    Raises:
      InputError: the shapes do not belong together.
    """
    _check(outputs, labels, labels.ndim)
    found = _negative_log_likelihood(outputs, jnp.maximum(labels, 0))
    along = tuple(range(1, labels.ndim))
    weight = scored.astype(jnp.float32)
    number = jnp.sum(weight, along)
    return jnp.sum(found * weight, along) / jnp.maximum(number, 1.0), number


def _negative_log_likelihood(outputs: Array, labels: Array) -> Array:
    log_probabilities = jax.nn.log_softmax(outputs.astype(jnp.float32), axis=-1)
    index = labels.astype(jnp.int32)[..., None]
    return -jnp.take_along_axis(log_probabilities, index, axis=-1)[..., 0]


def _check(outputs: Array, labels: Array, axes: int) -> None:
    if labels.ndim != axes or outputs.shape[:-1] != labels.shape:
        raise InputError(
            f"outputs of shape {outputs.shape} need integer labels of shape "
            f"{outputs.shape[:axes]}, not {labels.shape}"
        )
