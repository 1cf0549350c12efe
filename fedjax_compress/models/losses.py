"""Losses of each row and what the row counts for, in float32."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.models.inputs import lengths_of, within
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.typing import Array, Columns, Outputs, Task, rows_of

Losses = Callable[[Outputs, Columns], tuple[Array, Array]]
"""(outputs, columns) -> (value, weight), both float32 [batch]."""


def losses_for(task: Task, pad: int | None = None) -> Losses:
    """The usual loss of a task.

    ``class`` and ``positions``: softmax cross-entropy; ``several``: the mean over
    classes of the binary cross-entropy; ``number``: the mean of squared errors;
    ``sequence``: see ``of_frames``. A row
    counts as much as it has positions that are scored, and times its ``weights`` where
    there is such a column.

    Args:
      task: what is predicted.
      pad: the symbol that is not scored, where no ``lengths`` say which positions are;
        None for 0 where features are tokens, else for none.
    """
    if task.predicts == "positions":
        symbol = pad_of(task, pad)

        def of_positions(outputs: Outputs, columns: Columns) -> tuple[Array, Array]:
            counts = scored(columns, symbol)
            value, weight = token_cross_entropy(outputs, columns["labels"], counts)
            return value, weight * weight_of(columns)

        return of_positions
    if task.predicts == "sequence":

        def of_sequence(outputs: Outputs, columns: Columns) -> tuple[Array, Array]:
            return of_frames(outputs, frames_of(outputs, columns), columns)

        return of_sequence
    one = {
        "class": cross_entropy,
        "several": binary_cross_entropy,
        "number": squared_error,
    }[task.predicts]
    return lambda outputs, columns: (
        one(outputs, columns["labels"]),
        weight_of(columns),
    )


def weight_of(columns: Columns) -> Array:
    """What each row counts for: its ``weights``, else 1; float32 [batch]."""
    if "weights" in columns:
        return columns["weights"].astype(jnp.float32)
    return jnp.ones(rows_of(columns), jnp.float32)


def pad_of(task: Task, pad: int | None) -> int:
    """The symbol that is not scored; -1 for none."""
    return pad if pad is not None else (0 if task.tokens else -1)


def scored(columns: Columns, pad: int = -1) -> Array:
    """Which positions count, bool of the labels' shape: those before a row's
    ``lengths``, where there is such a column, else those whose label is not ``pad``."""
    labels = columns["labels"]
    if "lengths" not in columns:
        return labels.astype(jnp.int32) != pad
    places = labels.shape[1]
    real = within(lengths_of(columns, places), places)
    real = real.reshape(*real.shape, *(1,) * (labels.ndim - 2))
    return jnp.broadcast_to(real, labels.shape)


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
    check_classes(outputs, labels, 1)
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
        check_classes(outputs, labels, 1)
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
    found, wanted = paired(outputs, labels)
    return jnp.mean((found - wanted) ** 2, axis=1)


def paired(outputs: Array, labels: Array) -> tuple[Array, Array]:
    """Outputs and labels of equal number, float32 [batch, numbers] each.

    Raises:
      InputError: another number of labels than of outputs.
    """
    found = getattr(outputs, "shape", ())
    rows = labels.shape[0]
    if found[:1] != (rows,) or labels.size != outputs.size:
        raise InputError(
            f"{_described(outputs)} need as many numbers as labels, not {labels.shape}"
        )
    one, other = (x.astype(jnp.float32).reshape(rows, -1) for x in (outputs, labels))
    return one, other


def connectionist(
    outputs: Array, labels: Array, lengths: Array, label_lengths: Array
) -> Array:
    """Connectionist temporal classification: -log P of each row's labels, in nats.

    The sum over all ways in which the frames say them; class 0 is the blank.

    Args:
      outputs: [batch, frames, classes], logits of any float dtype.
      labels: integer [batch, longest].
      lengths: integer [batch], frames of each row.
      label_lengths: integer [batch], labels of each row.

    Returns:
      float32 [batch]; about 1e5 where there are too few frames for the labels.

    Raises:
      InputError: the shapes do not belong together.

    Reference: Graves et al. 2006; computed by optax.
    """
    import optax

    if getattr(outputs, "ndim", 0) != 3 or labels.ndim != 2:
        raise InputError(
            f"{_described(outputs)} need to be [batch, frames, classes], and labels "
            f"[batch, longest], not {labels.shape}"
        )
    with as_written():
        found: Array = optax.ctc_loss(
            outputs.astype(jnp.float32),
            (~within(lengths, outputs.shape[1])).astype(jnp.float32),
            labels.astype(jnp.int32),
            (~within(label_lengths, labels.shape[1])).astype(jnp.float32),
        )
    return found


def of_frames(outputs: Array, lengths: Array, columns: Columns) -> tuple[Array, Array]:
    """``connectionist`` of each row and what it counts for, float32 [batch] each.

    A row that its frames cannot say, since there are fewer of them than labels and
    repeats of labels, counts for nothing: its gradient would only do harm.

    Args:
      outputs: [batch, frames, classes], logits.
      lengths: integer [batch], frames of each row.
      columns: ``labels``, ``label_lengths`` and, if there are some, ``weights``.
    """
    labels, number = columns["labels"], columns["label_lengths"].astype(jnp.int32)
    place = jnp.arange(1, labels.shape[1], dtype=jnp.int32)[None]
    again = (labels[:, 1:] == labels[:, :-1]) & (place < number[:, None])
    needed = number + jnp.sum(again.astype(jnp.int32), axis=1)
    possible = needed <= lengths
    value = connectionist(outputs, labels, lengths, number)
    weight = weight_of(columns) * possible.astype(jnp.float32)
    return jnp.where(possible, value, 0.0), weight


def frames_of(outputs: Array, columns: Columns) -> Array:
    """Real frames of each row among ``outputs`` [batch, frames, ...], int32 [batch].

    Those of the column ``lengths``, all where there is none. A network that makes fewer
    frames than it reads is taken to make ceil(n / s) of n, s being the least whole
    number that fits; one of another rule needs a loss and figures of its own.
    """
    frames, read = outputs.shape[1], columns["features"].shape[1]
    stride = -(-read // frames)
    return -(-lengths_of(columns, read) // stride)


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
    check_classes(outputs, labels, labels.ndim)
    found = _negative_log_likelihood(outputs, jnp.maximum(labels, 0))
    along = tuple(range(1, labels.ndim))
    weight = scored.astype(jnp.float32)
    number = jnp.sum(weight, along)
    return jnp.sum(found * weight, along) / jnp.maximum(number, 1.0), number


def _negative_log_likelihood(outputs: Array, labels: Array) -> Array:
    log_probabilities = jax.nn.log_softmax(outputs.astype(jnp.float32), axis=-1)
    index = labels.astype(jnp.int32)[..., None]
    return -jnp.take_along_axis(log_probabilities, index, axis=-1)[..., 0]


def check_classes(outputs: Array, labels: Array, axes: int) -> None:
    """Raises InputError unless the outputs are a number for each class of each label,
    and labels have so many axes."""
    found = getattr(outputs, "shape", ())
    if labels.ndim != axes or found[:-1] != labels.shape:
        raise InputError(
            f"{_described(outputs)} need integer labels of shape {found[:axes]}, not "
            f"{labels.shape}"
        )


def _described(outputs: Outputs) -> str:
    if hasattr(outputs, "shape"):
        return f"outputs of shape {outputs.shape}"
    return f"outputs that are a {type(outputs).__name__}, not one array,"
