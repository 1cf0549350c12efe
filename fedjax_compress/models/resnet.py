"""Residual networks with group normalisation, for images."""

from __future__ import annotations

from flax import linen

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models.convolution.forms import Form
from fedjax_compress.models.convolution.layer import max_pool
from fedjax_compress.models.inputs import check_images, check_positive
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.models.residual import (
    BasicBlock,
    convolution,
    head,
    kaiming,
    norm,
)
from fedjax_compress.typing import Array, Model, Task

LEAK = 0.1
"""Slope below zero of ResNet-12's activation."""
_SLOPE = 0.01
"""The slope that scales ResNet-12's first kernels: a default, not ``LEAK``."""


class _Block12(linen.Module):
    features: int
    form: Form

    @linen.compact
    def __call__(self, x: Array) -> Array:
        kernels = kaiming(_SLOPE)
        y = x
        for i in (1, 2, 3):
            y = convolution(self.features, 3, self.form, kernels, f"conv_{i}")(y)
            y = norm(2, f"norm_{i}")(y)
            y = _leaky_relu(y) if i < 3 else y
        x = convolution(self.features, 1, self.form, kernels, "shortcut")(x)
        return max_pool(_leaky_relu(y + norm(2, "shortcut_norm")(x)))


class _ResNet12(linen.Module):
    widths: tuple[int, ...]
    classes: int
    form: Form

    @linen.compact
    def __call__(self, x: Array) -> Array:
        for i, width in enumerate(self.widths):
            x = _Block12(width, self.form, name=f"block_{i + 1}")(x)
        return head(self.classes, x)


class _ResNet18(linen.Module):
    width: int
    groups: int
    classes: int
    form: Form

    @linen.compact
    def __call__(self, x: Array) -> Array:
        x = convolution(self.width, 3, self.form, kaiming(0.0), "stem")(x)
        x = linen.relu(norm(self.groups, "stem_norm")(x))
        for i in range(8):
            features, stride = self.width * 2 ** (i // 2), 2 if i in (2, 4, 6) else 1
            name = f"block_{i + 1}"
            x = BasicBlock(features, stride, self.groups, self.form, name=name)(x)
        return head(self.classes, x)


@registry.register("model", context=1)
def resnet12(task: Task, maps: int = 16, conv: Form = "auto") -> Model:
    """ResNet-12 with group normalisation: four blocks that halve, a dense layer.

    With maps, 2.5 maps, 5 maps and 10 maps channels, block after block:

      y = norm(conv3x3(f(norm(conv3x3(f(norm(conv3x3(x))))))),
      block(x) = max_pool_2x2(f(y + norm(conv1x1(x)))),

    f the leaky ReLU of slope 0.1; then the mean over places and a dense layer. 780,266
    parameters and 33.06 million multiply-accumulates on 32x32x3 with 10 classes.
    Convolutions have stride one, zeros around (SAME) and no bias. A normalisation
    takes mean and variance over one image and one of 2 groups of channels, epsilon
    1e-5, and has a scale and a bias for each channel.

    First values: kernels of convolutions normal with mean 0 and variance
    2 / (1 + 0.01**2) / (size * size * output channels); scales 1 and biases 0 of
    normalisations; kernel and bias of the dense layer uniform in +-1 / sqrt(inputs).

    Parameters: ``block_1`` .. ``block_4``, each with ``conv_1``, ``conv_2``,
    ``conv_3`` and ``shortcut`` (``kernel`` [size, size, inputs, outputs]) and
    ``norm_1``, ``norm_2``, ``norm_3`` and ``shortcut_norm`` (``scale``, ``bias``);
    ``output`` (``kernel`` [inputs, classes], ``bias``).

    It has no ``cuts``: a normalisation mixes the channels of a group, so the network
    cut to some channels is not the whole one with the others zeroed.

    Args:
      task: images (height, width) or (height, width, channels), at least 16 x 16.
      maps: channels of the first block; a multiple of 4, so that all are even.
      conv: ``patches`` (slices and matrix products), ``winograd`` (fewer
        multiplications), ``direct`` (XLA's convolution) or ``auto`` (by the device);
        same parameters, same outputs to rounding, another speed.

    Raises:
      InputError: no images, images smaller than 16 x 16, or maps that are no
        multiple of 4.

    Reference: Grativol et al. 2023, whose size of the message in full precision, 2.97
      MiB, agrees.
    """
    check_positive("maps", maps)
    if maps % 4:
        raise InputError(f"maps must be a multiple of 4, not {maps}")
    check_images(task, 16)
    widths = (maps, 5 * maps // 2, 5 * maps, 10 * maps)
    module = _ResNet12(widths, task.classes, conv)
    return from_linen(module, task, conv="direct")


@registry.register("model", context=1)
def resnet18(
    task: Task, width: int = 64, groups: int = 2, conv: Form = "auto"
) -> Model:
    """ResNet-18 for small images, with group normalisation in place of batch's.

    A 3x3 convolution of ``width`` channels, normalisation, ReLU; four stages of two
    blocks, of width, 2 width, 4 width and 8 width channels, where the first block of
    the second to fourth stage has stride 2; the mean over places, a dense layer.

      block(x) = relu(norm(conv3x3(relu(norm(conv3x3(x))))) + shortcut(x)),

    shortcut(x) = x, or norm(conv1x1(x)) where stride or channels differ. 11,173,962
    parameters with 3 channels and 10 classes. Convolutions have no bias and, whatever
    the stride, one zero on each side of the image for 3x3. A normalisation takes mean
    and variance over one image and one group of channels, epsilon 1e-5, and has a
    scale and a bias for each channel.

    First values: kernels of convolutions normal with mean 0 and variance
    2 / (size * size * output channels); scales 1 and biases 0 of normalisations;
    kernel and bias of the dense layer uniform in +-1 / sqrt(inputs).

    Parameters: ``stem`` (``kernel``) and ``stem_norm`` (``scale``, ``bias``);
    ``block_1`` .. ``block_8``, each with ``conv_1`` and ``conv_2``, ``norm_1`` and
    ``norm_2``, and where it has one ``shortcut`` and ``shortcut_norm``; ``output``
    (``kernel`` [inputs, classes], ``bias``).

    It has no ``cuts``, for the reason given at ``resnet12``.

    Args:
      task: images (height, width) or (height, width, channels), at least 8 x 8.
      width: channels of the first stage.
      groups: groups of channels in a normalisation; 2 is usual in federated learning,
        32 in centralised training on large images. Must divide ``width``.
      conv: ``patches`` (slices and matrix products), ``winograd`` (fewer
        multiplications), ``direct`` (XLA's convolution) or ``auto`` (by the device);
        same parameters, same outputs to rounding, another speed.

    Raises:
      InputError: no images, images smaller than 8 x 8, a width or groups below 1, or
        a width that is no multiple of groups.

    Reference: He et al., "Deep Residual Learning for Image Recognition" (2016); Wu and
      He, "Group Normalization" (2018), which proposes 32 groups.

    Deviations: the stem is that usual for CIFAR, a 3x3 convolution of stride 1 and no
      max pooling, in place of 7x7, stride 2 and pooling.
    """
    check_positive("width", width)
    check_positive("groups", groups)
    if width % groups:
        raise InputError(f"width must be a multiple of groups {groups}, not {width}")
    check_images(task, 8)
    module = _ResNet18(width, groups, task.classes, conv)
    return from_linen(module, task, conv="direct")


def _leaky_relu(x: Array) -> Array:
    return linen.leaky_relu(x, LEAK)
