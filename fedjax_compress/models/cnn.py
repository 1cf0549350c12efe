"""Convolutional networks for images."""

from __future__ import annotations

from collections.abc import Sequence

from flax import linen

from fedjax_compress import registry
from fedjax_compress.models.convolution import Convolution, max_pool
from fedjax_compress.models.forms import Form
from fedjax_compress.models.inputs import check_images, check_positive
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.typing import Array, Model, Task


class _FedAvgCNN(linen.Module):
    widths: Sequence[int]
    dense: int
    classes: int
    form: Form

    @linen.compact
    def __call__(self, x: Array) -> Array:
        for i, width in enumerate(self.widths):
            x = Convolution(width, 5, "SAME", self.form, name=f"conv_{i + 1}")(x)
            x = linen.relu(max_pool(x))
        x = x.reshape(x.shape[0], -1)
        x = linen.relu(linen.Dense(self.dense, name="dense")(x))
        return linen.Dense(self.classes, name="output")(x)


class _EmnistCNN(linen.Module):
    classes: int
    dropout: bool
    form: Form

    @linen.compact
    def __call__(self, x: Array, train: bool) -> Array:
        still = not (self.dropout and train)
        x = linen.relu(Convolution(32, 3, "VALID", self.form, name="conv_1")(x))
        x = Convolution(64, 3, "VALID", self.form, name="conv_2")(x)
        x = linen.relu(max_pool(x))
        x = linen.Dropout(0.25, deterministic=still)(x)
        x = x.reshape(x.shape[0], -1)
        x = linen.relu(linen.Dense(128, name="dense")(x))
        x = linen.Dropout(0.5, deterministic=still)(x)
        return linen.Dense(self.classes, name="output")(x)


@registry.register("model", context=1)
def cnn(
    task: Task,
    widths: tuple[int, ...] = (32, 64),
    dense: int = 512,
    conv: Form = "auto",
) -> Model:
    """The FedAvg CNN: 5x5 convolutions with 2x2 max pooling, a dense layer, softmax.

    For each width: 5x5 convolution (SAME), ReLU, 2x2 max pooling; then dense, ReLU,
    dense. 1,663,370 parameters on 28x28x1 with 10 classes. Kernels are drawn from a
    truncated normal of variance 1 / inputs, biases are zero. Parameters: ``conv_1``,
    ``conv_2``, ..., ``dense``, ``output``, each with ``kernel`` and ``bias``.

    Args:
      task: images (height, width) or (height, width, channels).
      widths: output channels of the convolutions.
      dense: width of the dense layer.
      conv: ``patches`` (slices and matrix products), ``winograd`` (fewer
        multiplications), ``direct`` (XLA's convolution) or ``auto`` (by the device);
        same parameters, same outputs to rounding, another speed.

    Raises:
      InputError: no images, images too small to be halved once per width, or a
        width below 1.

    Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks
      from Decentralized Data" (2017), section 3; the parameter count agrees.
    """
    check_positive("a width in widths", *widths)
    check_positive("dense", dense)
    check_images(task, 2 ** len(widths))
    module = _FedAvgCNN(widths, dense, task.classes, conv)
    return from_linen(module, task, conv="direct")


@registry.register("model", context=1)
def emnist_cnn(task: Task, dropout: bool = True, conv: Form = "auto") -> Model:
    """The CNN of the EMNIST benchmark: two 3x3 convolutions, dropout, two dense layers.

    3x3 convolution of 32 (VALID), ReLU, 3x3 convolution of 64 (VALID), ReLU, 2x2 max
    pooling, dropout 0.25, dense 128, ReLU, dropout 0.5, dense. 1,206,590 parameters
    on 28x28x1 with 62 classes. Kernels are drawn from a truncated normal of variance
    1 / inputs, biases are zero. Parameters: ``conv_1``, ``conv_2``, ``dense``,
    ``output``, each with ``kernel`` and ``bias``.

    Args:
      task: images (height, width) or (height, width, channels), at least 6 x 6.
      dropout: whether to drop out while training.
      conv: ``patches`` (slices and matrix products), ``winograd`` (fewer
        multiplications), ``direct`` (XLA's convolution) or ``auto`` (by the device);
        same parameters, same outputs to rounding, another speed.

    Raises:
      InputError: no images, or images smaller than 6 x 6.

    Reference: Reddi et al., "Adaptive Federated Optimization" (2021), EMNIST
      character recognition; the parameter count agrees.
    """
    check_images(task, 6)
    module = _EmnistCNN(task.classes, dropout, conv)
    return from_linen(module, task, conv="direct")
