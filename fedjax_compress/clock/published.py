"""Times of a round as published systems reckon them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedjax_compress import prune
from fedjax_compress.clock.clock import Layers, Part
from fedjax_compress.registry import register

_MODELS = {"conv2": prune.conv2_femnist, "vgg11": prune.vgg11_cifar10}


@register("clock")
def prunefl(model: Literal["conv2", "vgg11"] = "conv2") -> Part:
    """PruneFL's time of a round, by kept parameters, not bytes: prunefl(vgg11).

    T = c + sum_l k_l (p_l + m) with k_l the parameters in use in layer l, 5 local
    steps; the same for all clients. Without pruning all are in use. What messages take
    is in it, and told as computing.

    Args:
      model: conv2 of FEMNIST, or vgg11 of CIFAR-10, with a time for each of their
        weight tensors.

    Raises:
      InputError: at the start of a run, a model with another number of them.

    Reference: Jiang et al. 2022, section IV and the constants of the authors' code.
    """
    time = _MODELS[model]()
    each = np.asarray(time.times)

    def seconds(kept: np.ndarray) -> float:
        return float(time.constant + np.sum(kept * each))

    return {"layers": Layers(f"prunefl({model})", seconds, len(each))}
