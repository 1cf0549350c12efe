"""Random changes of images while a model learns, and their normalisation.

A change works on a batch as it is stored, on the device, and comes before the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.checks.returned import difference_of_leaf, floats, within
from fedjax_compress.errors import InputError
from fedjax_compress.models.inputs import check_images, numbers
from fedjax_compress.typing import Array, Columns, Key, Model, Outputs, Params, Task


class OnColumns(NamedTuple):
    """A change that reads further columns, such as the lengths of rows.

    Attributes:
      change: (columns [batch, ...] as stored, key or None) -> the features, float32 of
        the same shape.
    """

    change: Callable[[Columns, Key | None], Array]


Augment = Callable[[Array, Key | None], Array] | OnColumns
"""(features [batch, height, width, channels] as stored, key or None) -> float32 of the
same shape. A key means training, None evaluation, in which nothing is random."""

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
"""Of red, green and blue over the training images of CIFAR-10, in [0, 1]."""
CIFAR10_STD = (0.2023, 0.1994, 0.2010)
"""Likewise: the mean over images of each image's own standard deviation, the numbers
in common use; over all pixels together it is about 0.25."""
_CHANGE = 0x4155474D
"""Folded into a model's key for its change, so that dropout draws other numbers."""


@registry.register("augment", context=1)
def none(task: Task) -> Augment | None:
    """No change: the model reads features as they are stored, of any kind."""
    return None


@registry.register("augment", context=1)
def crop_flip(
    task: Task,
    padding: int = 4,
    flip: bool = True,
    mean: tuple[float, ...] = CIFAR10_MEAN,
    std: tuple[float, ...] = CIFAR10_STD,
) -> Augment:
    """Crops at random after padding with black, mirrors half of the images, normalises.

    For each row by itself, with black around the image:

      y[i, j] = (x[i + u - padding, j' + v - padding] - mean) / std,

    u and v uniform in 0 .. 2 padding, j' = j or, with probability 1/2 where ``flip``,
    width - 1 - j. Without a key (x - mean) / std. Pixels are divided by
    ``task.scale`` before, and mean and std are those of what comes out.

    Args:
      task: images (height, width) or (height, width, channels).
      padding: black pixels on each side, before cropping to the old size.
      flip: whether images are mirrored left to right.
      mean: subtracted from each channel; one number, or one for each channel.
      std: divides each channel; likewise.

    Raises:
      InputError: no images, padding below 0 or wider than the image, another number of
        means or standard deviations, or one that is not finite, or a standard deviation
        not above 0; labels of each pixel, which would not be moved.

    Reference: He et al., "Deep Residual Learning for Image Recognition" (2016),
      section 4.2.

    Deviations: there the mean image is subtracted before padding; here the padding is
      black, as where one crops the stored image.
    """
    scale = _normalising(task, mean, std)
    height, width = task.shape[:2]
    if not 0 <= padding <= min(height, width):
        raise InputError(
            f"padding must be from 0 to {min(height, width)}, the shorter side of the "
            f"images, not {padding}"
        )
    if task.predicts == "positions" and (padding or flip):
        raise InputError(
            "crop_flip moves pictures, but not their labels of each pixel; leave it "
            "out, or say padding=0, flip=false"
        )

    def crop(image: Array, corner: Array) -> Array:
        size = (height, width, image.shape[2])
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), size)

    def change(features: Array, key: Key | None) -> Array:
        if key is None:
            return scale(features, None)
        batch, shape = len(features), features.shape
        pixels = features.reshape(batch, height, width, -1)
        if padding:
            where, sides = jax.random.fold_in(key, 0), (padding, padding)
            corners = jax.random.randint(where, (batch, 2), 0, 2 * padding + 1)
            padded = jnp.pad(pixels, ((0, 0), sides, sides, (0, 0)))
            pixels = jax.vmap(crop)(padded, corners)
        if flip:
            mirror = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, (batch,))
            pixels = jnp.where(mirror[:, None, None, None], pixels[:, :, ::-1], pixels)
        return scale(pixels.reshape(shape), None)

    return change


@registry.register("augment", context=1)
def normalise(task: Task, mean: tuple[float, ...], std: tuple[float, ...]) -> Augment:
    """Subtracts a mean from each channel and divides by a standard deviation.

    y = (x - mean) / std, with or without a key. Pixels are divided by
    ``task.scale`` before, and mean and std are those of what comes out.

    Args:
      task: images (height, width) or (height, width, channels).
      mean: of each channel; one number, or one for each channel.
      std: of each channel; likewise.

    Raises:
      InputError: no images, another number of means or standard deviations, or one
        that is not finite, or a standard deviation not above 0.
    """
    return _normalising(task, mean, std)


def augmented(model: Model, change: Augment) -> Model:
    """The model with a change before it.

    In training the change has a key of its own, folded from the model's key; the model
    keeps its key, so its dropout is what it was. A model cut along its ``cuts`` has the
    same change before it.

    Args:
      model: reads float32 features of the task's shape.
      change: such as ``crop_flip(task)``, for the same task.
    """

    def before(columns: Columns, key: Key | None) -> Columns:
        features = columns["features"]
        own = None if key is None else jax.random.fold_in(key, _CHANGE)
        with within("the augment"):
            if isinstance(change, OnColumns):
                changed = change.change(columns, own)
            else:
                changed = change(features, own)
        wanted = "floats of the shape of the features"
        if difference_of_leaf(changed, features):  # what is left alone is right
            floats("the augment", changed, features.shape, wanted)
        return {**columns, "features": changed}

    def apply(params: Params, columns: Columns, key: Key | None) -> Outputs:
        return model.apply(params, before(columns, key), key)

    halves = model.halves
    if halves is not None:
        whole = halves.first
        halves = halves._replace(first=lambda p, c, k: whole(p, before(c, k), k))
    cuts = model.cuts
    if cuts is not None:
        inner = cuts.narrow
        cuts = cuts._replace(narrow=lambda counts: augmented(inner(counts), change))
    return model._replace(apply=apply, cuts=cuts, halves=halves)


def _normalising(
    task: Task, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Array, Key | None], Array]:
    """See ``normalise``."""
    check_images(task, 1)
    _check_channels(task, "mean", mean)
    _check_channels(task, "std", std)
    if min(std) <= 0:
        raise InputError(f"std must be above 0, not {min(std)}")

    def change(features: Array, key: Key | None) -> Array:
        along = 1, 1, 1, -1
        centre = jnp.asarray(mean, jnp.float32).reshape(along)
        spread = jnp.asarray(std, jnp.float32).reshape(along)
        pixels = numbers(features, task)
        shape = (*features.shape[:3], -1)
        return ((pixels.reshape(shape) - centre) / spread).reshape(pixels.shape)

    return change


def _check_channels(task: Task, name: str, values: tuple[float, ...]) -> None:
    channels = task.shape[2] if len(task.shape) == 3 else 1
    if len(values) not in (1, channels):
        wanted = "1 number" if channels == 1 else f"1 or {channels} numbers"
        raise InputError(
            f"{name} needs {wanted} for images of {channels} "
            f"channel{'s' * (channels > 1)}, not {len(values)}"
        )
    if not all(map(math.isfinite, values)):
        raise InputError(f"{name} must be finite, not {values}")
