"""Losses and right answers, example by example, in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array


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
    """Mean over classes of the binary cross-entropy with one-hot targets, in nats.

    (1 / classes) sum_c log(1 + exp(-z_c)) for the label, log(1 + exp(z_c)) for others.

    Args:
      outputs: [batch, classes], logits of any float dtype.
      labels: [batch], integer in 0 .. classes-1.

    Returns:
      float32 [batch].

    Raises:
      InputError: the shapes do not belong together.
    """
    _check(outputs, labels, 1)
    outputs = outputs.astype(jnp.float32)
    target = jax.nn.one_hot(labels, outputs.shape[-1], dtype=jnp.float32)
    losses = jax.nn.softplus(outputs) - outputs * target
    return jnp.mean(losses, axis=-1)


def correct(outputs: Array, labels: Array) -> Array:
    """1 where the largest output is that of the label (first of equals), else 0.

    Args:
      outputs: [batch, classes].
      labels: [batch], integer.

    Returns:
      float32 [batch].
    """
    _check(outputs, labels, 1)
    return (jnp.argmax(outputs, axis=-1) == labels).astype(jnp.float32)


def token_cross_entropy(outputs: Array, labels: Array, pad: int = 0) -> Array:
    """Cross-entropy of each sequence: the mean over its tokens that are not ``pad``.

    Args:
      outputs: [batch, time, symbols], logits.
      labels: [batch, time], integer in 0 .. symbols-1.
      pad: the symbol that is not scored.

    Returns:
      float32 [batch]; 0 for a sequence of nothing but ``pad``.
    """
    _check(outputs, labels, 2)
    return _mean_of_tokens(_negative_log_likelihood(outputs, labels), labels != pad)


def token_correct(outputs: Array, labels: Array, pad: int = 0) -> Array:
    """Share of right tokens of each sequence, among those that are not ``pad``.

    Args:
      outputs: [batch, time, symbols].
      labels: [batch, time], integer.
      pad: the symbol that is not scored.

    Returns:
      float32 [batch]; 0 for a sequence of nothing but ``pad``.
    """
    _check(outputs, labels, 2)
    right = (jnp.argmax(outputs, axis=-1) == labels).astype(jnp.float32)
    return _mean_of_tokens(right, labels != pad)


def _negative_log_likelihood(outputs: Array, labels: Array) -> Array:
    log_probabilities = jax.nn.log_softmax(outputs.astype(jnp.float32), axis=-1)
    index = labels.astype(jnp.int32)[..., None]
    return -jnp.take_along_axis(log_probabilities, index, axis=-1)[..., 0]


def _mean_of_tokens(values: Array, scored: Array) -> Array:
    weight = scored.astype(jnp.float32)
    return jnp.sum(values * weight, -1) / jnp.maximum(jnp.sum(weight, -1), 1.0)


def _check(outputs: Array, labels: Array, axes: int) -> None:
    if labels.ndim != axes or outputs.shape[:-1] != labels.shape:
        raise InputError(
            f"outputs of shape {outputs.shape} need integer labels of shape "
            f"{outputs.shape[:axes]}, not {labels.shape}"
        )
