"""Convolutional networks for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from flax import linen

from fedjax_compress import registry
from fedjax_compress.models import losses
from fedjax_compress.models.convolution.forms import Form
from fedjax_compress.models.convolution.layer import Convolution, max_pool
from fedjax_compress.models.cutting import Ends, layers
from fedjax_compress.models.inputs import check_images, check_positive
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.typing import Array, Columns, Model, Task, Tie

Loss = Literal["cross_entropy", "binary_cross_entropy"]


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
    widths: tuple[int, int]
    dense: int
    classes: int
    dropout: bool
    form: Form

    @linen.compact
    def __call__(self, x: Array, train: bool) -> Array:
        still = not (self.dropout and train)
        x = linen.relu(
            Convolution(self.widths[0], 3, "VALID", self.form, name="conv_1")(x)
        )
        x = Convolution(self.widths[1], 3, "VALID", self.form, name="conv_2")(x)
        x = linen.relu(max_pool(x))
        x = linen.Dropout(0.25, deterministic=still)(x)
        x = x.reshape(x.shape[0], -1)
        x = linen.relu(linen.Dense(self.dense, name="dense")(x))
        x = linen.Dropout(0.5, deterministic=still)(x)
        return linen.Dense(self.classes, name="output")(x)


@registry.register("model", context=1)
def cnn(
    task: Task,
    widths: tuple[int, ...] = (32, 64),
    dense: int = 512,
    conv: Form = "auto",
    loss: Loss = "cross_entropy",
) -> Model:
    """The FedAvg CNN: 5x5 convolutions with 2x2 max pooling, a dense layer, softmax.

    For each width: 5x5 convolution (SAME), ReLU, 2x2 max pooling; then dense, ReLU,
    dense. 1,663,370 parameters on 28x28x1 with 10 classes; with ``dense=2048`` and 62
    classes 6,603,710, LEAF's network for FEMNIST. Kernels are drawn from a
    truncated normal of variance 1 / inputs, biases are zero. Parameters: ``conv_1``,
    ``conv_2``, ..., ``dense``, ``output``, each with ``kernel`` and ``bias``.

    Args:
      task: images (height, width) or (height, width, channels).
      widths: output channels of the convolutions.
      dense: width of the dense layer.
      conv: ``patches`` (slices and matrix products), ``winograd`` (fewer
        multiplications), ``direct`` (XLA's convolution) or ``auto`` (by the device);
        same parameters, same outputs to rounding, another speed.
      loss: cross_entropy of the softmax, or binary_cross_entropy with one-hot targets,
        mean over the classes, which makes gradients smaller by about their number.

    Raises:
      InputError: no images, images too small to be halved once per width, or a
        width below 1.

    Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks
      from Decentralized Data" (2017), section 3; the parameter count agrees.
    """
    check_positive("a width in widths", *widths)
    check_positive("dense", dense)
    check_images(task, 2 ** len(widths))
    return _cnn(task, widths, dense, conv, loss)


def _cnn(
    task: Task, widths: tuple[int, ...], dense: int, conv: Form, loss: Loss
) -> Model:
    names = [f"conv_{i + 1}" for i in range(len(widths))]
    groups = dict(zip(names, widths, strict=True)) | {"dense": dense}
    ends: dict[str, Ends] = {}
    reads: Tie | None = None
    for name in names:
        ends[name] = (reads, Tie(name))
        reads = Tie(name)
    halvings = 2 ** len(widths)
    places = (task.shape[0] // halvings) * (task.shape[1] // halvings)
    last = Tie(names[-1], outer=places) if names else None
    ends |= {"dense": (last, Tie("dense")), "output": (Tie("dense"), None)}

    def narrow(counts: dict[str, int]) -> Model:
        fewer = tuple(counts[name] for name in names)
        return _cnn(task, fewer, counts["dense"], conv, loss)

    cuts = layers(groups, ends, narrow, spatial=2)
    module = _FedAvgCNN(widths, dense, task.classes, conv)
    score = None if loss == "cross_entropy" else _binary
    return from_linen(module, task, conv="direct", cuts=cuts, loss=score)


def _binary(outputs: Array, columns: Columns) -> Array:
    return losses.binary_cross_entropy(outputs, columns["labels"])


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
    return _emnist(task, (32, 64), 128, dropout, conv)


def _emnist(
    task: Task, widths: tuple[int, int], dense: int, dropout: bool, conv: Form
) -> Model:
    first, second, wide = (Tie(name) for name in ("conv_1", "conv_2", "dense"))
    places = ((task.shape[0] - 4) // 2) * ((task.shape[1] - 4) // 2)
    ends: dict[str, Ends] = {
        "conv_1": (None, first),
        "conv_2": (first, second),
        "dense": (second._replace(outer=places), wide),
        "output": (wide, None),
    }
    groups = {"conv_1": widths[0], "conv_2": widths[1], "dense": dense}

    def narrow(counts: dict[str, int]) -> Model:
        fewer = counts["conv_1"], counts["conv_2"]
        return _emnist(task, fewer, counts["dense"], dropout, conv)

    cuts = layers(groups, ends, narrow, spatial=2)
    module = _EmnistCNN(widths, dense, task.classes, dropout, conv)
    return from_linen(module, task, conv="direct", cuts=cuts)
