"""What clients compute, as a clock counts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_compress import tree
from fedjax_compress.models import forward_macs
from fedjax_compress.typing import Algorithm, LocalUpdate, Model, Task

Array = np.ndarray


class Work(NamedTuple):
    """What clients compute in a phase.

    Attributes:
      rows: number of a client's rows -> how many it learns from, each as often as it is
        seen; arrays.
      macs: multiply-accumulates of a forward pass on one row, for each tier.
      parameters: that are decoded and encoded, for each tier.
    """

    rows: Callable[[Array], Array]
    macs: tuple[float, ...]
    parameters: tuple[int, ...]


def work_of(algorithm: Algorithm, local: LocalUpdate, model: Model, task: Task) -> Work:
    """The work of an algorithm's clients; of each tier where their networks differ."""
    trained = algorithm.trains or (model,)
    shapes = [jax.eval_shape(m.init, jax.random.key(0)) for m in trained]
    macs = tuple(float(forward_macs(m, task)) for m in trained)
    seen: Any = algorithm.seen or local.seen
    return Work(seen, macs, tuple(tree.count(s) for s in shapes))
