"""Residual networks for small images, whole and in halves: 8, 20, 55, 56, 109, 110."""

from __future__ import annotations

from typing import Any, Literal

from flax import linen

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models.convolution.forms import Form
from fedjax_compress.models.inputs import check_images, check_positive, images
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.models.residual import (
    BasicBlock,
    convolution,
    head,
    kaiming,
    norm,
)
from fedjax_compress.typing import Array, Columns, Halves, Key, Model, Params, Task

_EXPANSION = 4
Part = Literal["whole", "stem", "stages"]


class _Bottleneck(linen.Module):
    planes: int
    stride: int
    groups: int
    form: Form

    @linen.compact
    def __call__(self, x: Array) -> Array:
        kernels, features = kaiming(0.0), _EXPANSION * self.planes
        y = x
        for i, (width, size, stride) in enumerate(
            [(self.planes, 1, 1), (self.planes, 3, self.stride), (features, 1, 1)], 1
        ):
            y = convolution(width, size, self.form, kernels, f"conv_{i}", stride)(y)
            y = norm(self.groups, f"norm_{i}")(y)
            y = linen.relu(y) if i < 3 else y
        if self.stride > 1 or x.shape[-1] != features:
            x = convolution(features, 1, self.form, kernels, "shortcut", self.stride)(x)
            x = norm(self.groups, "shortcut_norm")(x)
        return linen.relu(y + x)


class _Network(linen.Module):
    """A stem, stages of blocks, the end; or a part of it."""

    stages: tuple[int, ...]
    width: int
    basic: bool
    groups: int
    classes: int
    form: Form
    part: Part = "whole"

    @linen.compact
    def __call__(self, x: Array) -> Array:
        if self.part != "stages":
            x = convolution(self.width, 3, self.form, kaiming(0.0), "stem")(x)
            x = linen.relu(norm(self.groups, "stem_norm")(x))
        if self.part == "stem":
            return x
        make = BasicBlock if self.basic else _Bottleneck
        number = 0
        for stage, blocks in enumerate(self.stages):
            for place in range(blocks):
                number += 1
                stride = 2 if stage and not place else 1
                x = make(
                    self.width * 2**stage,
                    stride,
                    self.groups,
                    self.form,
                    name=f"block_{number}",
                )(x)
        return head(self.classes, x)


@registry.register("model", context=1)
def resnet8(
    task: Task, width: int = 16, blocks: int = 2, groups: int = 2, conv: Form = "auto"
) -> Model:
    """FedGKT's network of clients, ResNet-8: a convolution, a stage of bottlenecks.

    A 3x3 convolution of ``width`` channels, normalisation, ReLU; then bottlenecks of
    ``width`` planes, see ``resnet56``; the mean over places, a dense layer. 10,586
    parameters and 9.62 million multiply-accumulates on 32x32x3 with 10 classes, 16,436
    with 100. Its halves: what the stem makes, height x width x ``width``, and the rest.

    Parameters: as of ``resnet56``.

    Args:
      task: images (height, width) or (height, width, channels), at least 8 x 8.
      width: channels of the stem, and planes of the bottlenecks.
      blocks: bottlenecks.
      groups, conv: as of ``resnet56``.

    Raises:
      InputError: as ``resnet56``.

    Reference: He et al. 2020 (FedGKT), whose 11 K parameters agree; batch normalisation
      there has as many as group normalisation here.
    """
    return _model(task, (blocks,), width, groups, conv, "front")


@registry.register("model", context=1)
def resnet20(
    task: Task, width: int = 16, blocks: int = 3, groups: int = 2, conv: Form = "auto"
) -> Model:
    """ResNet-20 for small images: three stages of basic blocks, of 1, 2, 4 widths.

      block(x) = relu(norm(conv3x3(relu(norm(conv3x3(x))))) + shortcut(x)),

    shortcut(x) = x, or norm(conv1x1(x)) where stride or channels differ. 272,474
    parameters on 32x32x3 with 10 classes; ``blocks=1`` is the ResNet-8 of FedDF.

    Parameters: as of ``resnet18``.

    Args:
      task: images (height, width) or (height, width, channels), at least 8 x 8.
      width: channels of the first stage.
      blocks: in each stage: 1, 3, 5, 9 for ResNet-8, -20, -32, -56.
      groups, conv: as of ``resnet56``.

    Raises:
      InputError: as ``resnet56``.

    Reference: He et al. 2016, section 4.2. Deviations: group for batch normalisation,
      and projections where shapes differ (their option B; A has 2,752 fewer).
    """
    return _model(task, (blocks,) * 3, width, groups, conv, basic=True)


@registry.register("model", context=1)
def resnet56(
    task: Task, width: int = 16, blocks: int = 6, groups: int = 2, conv: Form = "auto"
) -> Model:
    """ResNet-56 of bottlenecks: a convolution and stages of 1, 2 and 4 widths.

    A 3x3 convolution of ``width`` channels, normalisation, ReLU; three stages of
    ``blocks`` bottlenecks of width, 2 width and 4 width planes, where the first block
    of the second and third has stride 2; the mean over places, a dense layer.

      block(x) = relu(norm(conv1x1(relu(norm(conv3x3(relu(norm(conv1x1(x)))))))) +
                      shortcut(x)),

    the last convolution with four times as many channels as there are planes, the
    stride on the 3x3; shortcut(x) = x, or norm(conv1x1(x)) where stride or channels
    differ. 591,322 parameters and 87.2 million multiply-accumulates on 32x32x3 with 10
    classes. Convolutions have no bias, and a 3x3 has one zero on each side. First
    values and normalisations as of ``resnet18``.

    Parameters: ``stem`` and ``stem_norm``; ``block_1``, ``block_2``, ..., each with
    ``conv_1`` to ``conv_3``, ``norm_1`` to ``norm_3``, and where it has one
    ``shortcut`` and ``shortcut_norm``; ``output``.

    Args:
      task: images (height, width) or (height, width, channels), at least 8 x 8.
      width: channels of the stem, and planes of the first stage.
      blocks: in each stage: 6 for 56 layers, 12 for 110.
      groups: groups of channels in a normalisation; must divide ``width``.
      conv: as of ``resnet18``.

    Raises:
      InputError: no images, images smaller than 8 x 8, a number below 1, or a width
        that is no multiple of groups.

    Reference: He et al. 2016; the bottlenecks are those of FedGKT, whose 591 K
      parameters agree. Deviation: group for batch normalisation, with as many.
    """
    return _model(task, (blocks,) * 3, width, groups, conv)


@registry.register("model", context=1)
def resnet110(
    task: Task, width: int = 16, blocks: int = 12, groups: int = 2, conv: Form = "auto"
) -> Model:
    """ResNet-110 of bottlenecks: ``resnet56`` with twice as many of them.

    1,147,738 parameters and 167.4 million multiply-accumulates on 32x32x3 with 10
    classes.

    Args:
      task, width, blocks, groups, conv: as of ``resnet56``.

    Raises:
      InputError: as ``resnet56``.

    Reference: as ``resnet56``; FedGKT's 1,150 K agree.
    """
    return _model(task, (blocks,) * 3, width, groups, conv)


@registry.register("model", context=1)
def resnet55(
    task: Task, width: int = 16, blocks: int = 6, groups: int = 2, conv: Form = "auto"
) -> Model:
    """FedGKT's network of the server, ResNet-55: ``resnet56`` without its stem.

    It reads feature maps, as the stem of ``resnet8`` makes them. 590,858 parameters
    with maps of 16 channels and 10 classes, 613,988 with 100.

    Args:
      task: maps (height, width, channels), at least 8 x 8.
      width: planes of the first stage.
      blocks: in each stage.
      groups, conv: as of ``resnet56``.

    Raises:
      InputError: as ``resnet56``.

    Reference: He et al. 2020 (FedGKT). Deviation: without the stem that the authors'
      class makes and never uses.
    """
    return _model(task, (blocks,) * 3, width, groups, conv, "stages")


@registry.register("model", context=1)
def resnet109(
    task: Task, width: int = 16, blocks: int = 12, groups: int = 2, conv: Form = "auto"
) -> Model:
    """FedGKT's larger network of the server, ResNet-109: ``resnet110`` without stem.

    1,147,274 parameters with maps of 16 channels and 10 classes.

    Args:
      task, width, blocks, groups, conv: as of ``resnet55``.

    Raises:
      InputError: as ``resnet56``.

    Reference: as ``resnet55``.
    """
    return _model(task, (blocks,) * 3, width, groups, conv, "stages")


Shape = Literal["whole", "front", "stages"]


def _model(
    task: Task,
    stages: tuple[int, ...],
    width: int,
    groups: int,
    form: Form,
    shape: Shape = "whole",
    basic: bool = False,
) -> Model:
    """A network; ``front`` is whole, and says what its halves are."""
    check_positive("width", width)
    check_positive("blocks", stages[0])
    check_positive("groups", groups)
    if width % groups:
        raise InputError(f"width must be a multiple of groups {groups}, not {width}")
    check_images(task, 8)

    def module(part: Part) -> _Network:
        return _Network(stages, width, basic, groups, task.classes, form, part)

    made = from_linen(
        module("stages" if shape == "stages" else "whole"), task, conv="direct"
    )
    if shape != "front":
        return made

    def first(params: Params, columns: Columns, key: Key | None) -> Array:
        x = images(columns["features"], task)
        part: Any = module("stem")
        found: Array = part.apply({"params": params}, x)
        return found

    def second(params: Params, maps: Array, key: Key | None) -> Array:
        part: Any = module("stages")
        found: Array = part.apply({"params": params}, maps)
        return found

    maps = (*task.shape[:2], width)
    return made._replace(halves=Halves(first, second, maps))
