"""LeNet-5."""

from __future__ import annotations

import math
from typing import Literal

from flax import linen

from fedjax_compress import registry
from fedjax_compress.models.convolution.forms import Form
from fedjax_compress.models.convolution.layer import Convolution, max_pool
from fedjax_compress.models.cutting import chain
from fedjax_compress.models.inputs import check_images, check_positive
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.typing import Array, Model, Task


class _LeNet(linen.Module):
    widths: tuple[int, ...]
    dense: tuple[int, ...]
    classes: int
    form: Form

    @linen.compact
    def __call__(self, x: Array) -> Array:
        first, second = self.widths
        padding = _padding(x.shape[1:3])
        x = Convolution(first, 5, padding, self.form, name="conv_1")(x)
        x = max_pool(linen.relu(x))
        x = Convolution(second, 5, "VALID", self.form, name="conv_2")(x)
        x = max_pool(linen.relu(x))
        x = x.reshape(x.shape[0], -1)
        for i, size in enumerate(self.dense):
            x = linen.relu(linen.Dense(size, name=f"dense_{i + 1}")(x))
        return linen.Dense(self.classes, name="output")(x)


@registry.register("model", context=1)
def lenet(task: Task, width: int = 6, conv: Form = "auto") -> Model:
    """LeNet-5: two 5x5 convolutions and three dense layers, with ReLU and max pools.

    Convolutions of 6 and 16 channels, each followed by ReLU and a 2x2 max pool; dense
    layers of 120 and 84 with ReLU, and the output. The first convolution is padded
    where images are smaller than 32 x 32, so that those of 28 x 28 are as in the paper.
    61,706 parameters on 28x28x1 with 10 classes, 62,006 on 32x32x3.

    Parameters: ``conv_1``, ``conv_2``, ``dense_1``, ``dense_2``, ``output``, each with
    kernel and bias, drawn as those of ``cnn``.

    Args:
      task: images (height, width) or (height, width, channels), at least 12 x 12.
      width: channels of the first convolution; the second has 8/3 of it, the dense
        layers 20 and 14 times as much.
      conv: as of ``cnn``.

    Raises:
      InputError: no images, images smaller than 12 x 12, or a width below 1.

    Reference: LeCun et al. 1998. Deviations, as is usual now: ReLU and max pools, every
      map of the second convolution reads all of the first's, a softmax.
    """
    check_positive("width", width)
    check_images(task, 12)
    return _lenet(task, (width, 8 * width // 3), (20 * width, 14 * width), conv)


def _lenet(
    task: Task, widths: tuple[int, ...], dense: tuple[int, ...], conv: Form
) -> Model:
    lost = 0 if _padding(task.shape[:2]) == "SAME" else 4
    places = math.prod(((side - lost) // 2 - 4) // 2 for side in task.shape[:2])
    cuts = chain(widths, dense, places, lambda w, d: _lenet(task, w, d, conv))
    module = _LeNet(widths, dense, task.classes, conv)
    return from_linen(module, task, conv="direct", cuts=cuts)


def _padding(sides: tuple[int, ...]) -> Literal["SAME", "VALID"]:
    return "SAME" if min(sides) < 32 else "VALID"
