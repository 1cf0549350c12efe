"""From stored features to what a network reads, and checks of the task."""

from __future__ import annotations

import math

import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    PIXEL,
    Array,
    Columns,
    Task,
    has_pictures,
    rows_of,
)


def numbers(features: Array, task: Task) -> Array:
    """Float32 numbers, divided by what the task says."""
    scale = task.scale
    if scale is None:
        pixels = features.dtype == jnp.uint8 and has_pictures(task.shape)
        scale = PIXEL if pixels else 1.0
    found = features.astype(jnp.float32)
    return found if scale == 1 else found / scale


def images(features: Array, task: Task) -> Array:
    """``numbers``; [batch, height, width] gets a channel axis of length one."""
    pixels = numbers(features, task)
    return pixels[..., None] if pixels.ndim == 3 else pixels


def flat(features: Array, task: Task) -> Array:
    """``numbers`` as [batch, everything else]."""
    return numbers(features, task).reshape(features.shape[0], -1)


def tokens(features: Array) -> Array:
    """Int32 tokens."""
    return features.astype(jnp.int32)


def lengths_of(columns: Columns, places: int) -> Array:
    """How many places of each row are real, int32 [batch]: what ``lengths`` says, all
    where there is no such column."""
    if "lengths" in columns:
        return columns["lengths"].astype(jnp.int32)
    return jnp.full((rows_of(columns),), places, jnp.int32)


def within(lengths: Array, places: int) -> Array:
    """Which places lie within the lengths [batch] of rows, bool [batch, places]."""
    return jnp.arange(places, dtype=jnp.int32)[None] < lengths[:, None]


def check_numbers(task: Task) -> None:
    """Refuses a task of tokens, and one without numbers or classes.

    Raises:
      InputError: the task is no classification of numbers or pixels.
    """
    if task.tokens:
        raise InputError("reads numbers or pixels, not tokens; try char_lstm")
    if math.prod(task.shape) < 1:
        raise InputError(f"needs at least one number, not shape {task.shape}")
    check_positive("the number of classes", task.classes)


def check_images(task: Task, smallest: int) -> None:
    """Refuses a task that is not one of images of a certain size.

    Raises:
      InputError: no images, or one side shorter than ``smallest``.
    """
    check_numbers(task)
    if len(task.shape) not in (2, 3):
        raise InputError(
            "needs images (height, width) or (height, width, channels), "
            f"not shape {task.shape}"
        )
    height, width = task.shape[:2]
    if min(height, width) < smallest:
        raise InputError(
            f"needs images of at least {smallest} x {smallest}, not {height} x {width}"
        )


def check_tokens(task: Task) -> None:
    """Refuses a task that is not one of sequences of tokens.

    Raises:
      InputError: the features are not tokens (time,).
    """
    if not task.tokens:
        raise InputError("reads tokens, not numbers; try mlp or cnn")
    if len(task.shape) != 1 or task.shape[0] < 1:
        raise InputError(f"needs sequences (time,), not shape {task.shape}")
    check_positive("the number of symbols", task.classes)


def check_positive(name: str, *values: int) -> None:
    """Refuses a size below one.

    Raises:
      InputError: some value is not positive.
    """
    for value in values:
        if value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
