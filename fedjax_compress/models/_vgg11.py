"""VGG-11 for small images."""

from __future__ import annotations

from flax import linen

from fedjax_compress import registry
from fedjax_compress.models.convolution.forms import Form
from fedjax_compress.models.convolution.layer import Convolution, max_pool
from fedjax_compress.models.cutting import chain
from fedjax_compress.models.inputs import check_images, check_positive
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.typing import Array, Model, Task

_WIDTHS = (1, 2, 4, 4, 8, 8, 8, 8)
"""Channels of the convolutions, in the first one's."""
_POOLED = (0, 1, 3, 5, 7)
"""Those that are followed by a pool."""


class _Vgg11(linen.Module):
    widths: tuple[int, ...]
    dense: tuple[int, ...]
    classes: int
    form: Form

    @linen.compact
    def __call__(self, x: Array) -> Array:
        kernels = linen.initializers.he_normal()
        for i, width in enumerate(self.widths):
            name = f"conv_{i + 1}"
            layer = Convolution(
                width, 3, form=self.form, kernel_init=kernels, name=name
            )
            x = linen.relu(layer(x))
            x = max_pool(x) if i in _POOLED else x
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.dense):
            dense = linen.Dense(width, name=f"dense_{i + 1}", kernel_init=kernels)
            x = linen.relu(dense(x))
        return linen.Dense(self.classes, name="output")(x)


@registry.register("model", context=1)
def vgg11(task: Task, width: int = 64, conv: Form = "auto") -> Model:
    """VGG-11 without normalisation: eight 3x3 convolutions, three dense layers.

    Convolutions of 64, 128, 256, 256, 512, 512, 512 and 512 channels with a bias and
    ReLU, a 2x2 max pool behind the first, second, fourth, sixth and eighth; two dense
    layers of 512 with ReLU, and the output. 9,750,922 parameters and 153 million
    multiply-accumulates on 32x32x3 with 10 classes.

    Parameters: ``conv_1`` .. ``conv_8``, ``dense_1``, ``dense_2`` and ``output``, each
    with kernel and bias. Kernels are drawn from a truncated normal of variance
    2 / inputs (the output's 1 / inputs), biases are zero.

    Args:
      task: images (height, width) or (height, width, channels), at least 32 x 32.
      width: channels of the first convolution, to which the others are in proportion.
      conv: as of ``cnn``.

    Raises:
      InputError: no images, images smaller than 32 x 32, or a width below 1.

    Reference: Simonyan and Zisserman 2015, configuration A, with dense layers of 512 as
      in PruneFL, whose number of parameters agrees.
    """
    check_positive("width", width)
    check_images(task, 32)
    widths = tuple(width * times for times in _WIDTHS)
    return _vgg11(task, widths, (8 * width, 8 * width), conv)


def _vgg11(
    task: Task, widths: tuple[int, ...], dense: tuple[int, ...], conv: Form
) -> Model:
    places = (task.shape[0] // 32) * (task.shape[1] // 32)
    cuts = chain(widths, dense, places, lambda w, d: _vgg11(task, w, d, conv))
    module = _Vgg11(widths, dense, task.classes, conv)
    return from_linen(module, task, conv="direct", cuts=cuts)
