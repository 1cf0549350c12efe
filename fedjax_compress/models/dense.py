"""Networks of dense layers, which read every example as one flat vector."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

from flax import linen

from fedjax_compress import registry
from fedjax_compress.models.adapt import read_features
from fedjax_compress.models.cutting import Ends, layers
from fedjax_compress.models.inputs import check_numbers, check_positive, flat
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.typing import (
    Array,
    Columns,
    Halves,
    Key,
    Model,
    Params,
    Task,
    Tie,
)


class _Dense(linen.Module):
    hidden: Sequence[int]
    classes: int
    part: Literal["whole", "first", "others"] = "whole"

    @linen.compact
    def __call__(self, x: Array) -> Array:
        for i, width in enumerate(self.hidden):
            if self.part == ("first" if i else "others"):
                continue
            x = linen.relu(linen.Dense(width, name=f"dense_{i + 1}")(x))
        return (
            x if self.part == "first" else linen.Dense(self.classes, name="output")(x)
        )


@registry.register("model", context=1)
def logistic(task: Task) -> Model:
    """Multinomial logistic regression on the flattened features.

    outputs = x W + b. Parameters ``output/kernel`` [features, classes] (normal of
    variance 1 / features, truncated) and ``output/bias`` (zeros).

    Args:
      task: shape and classes of the data; not tokens.

    Raises:
      InputError: a task of tokens.
    """
    check_numbers(task)
    read = read_features(functools.partial(flat, task=task))
    return from_linen(_Dense((), task.classes), task, inputs=read, conv="direct")


@registry.register("model", context=1)
def mlp(task: Task, hidden: tuple[int, ...] = (64,)) -> Model:
    """Dense layers with ReLU on the flattened features.

    Parameters ``dense_1``, ``dense_2``, ... and ``output``, each ``kernel`` [in, out]
    (normal of variance 1 / in, truncated) and ``bias`` (zeros). Its halves: the first
    hidden layer, and the others.

    Args:
      task: shape and classes of the data; not tokens.
      hidden: widths of the hidden layers.

    Raises:
      InputError: a task of tokens, or a width below 1.
    """
    check_numbers(task)
    check_positive("a width in hidden", *hidden)
    return _mlp(task, hidden)


def _mlp(task: Task, hidden: tuple[int, ...]) -> Model:
    names = [f"dense_{i + 1}" for i in range(len(hidden))]
    ends: dict[str, Ends] = {}
    reads: Tie | None = None
    for name in names:
        ends[name] = (reads, Tie(name))
        reads = Tie(name)
    ends["output"] = (reads, None)

    def narrow(counts: dict[str, int]) -> Model:
        return _mlp(task, tuple(counts[name] for name in names))

    cuts = layers(dict(zip(names, hidden, strict=True)), ends, narrow)
    module = _Dense(hidden, task.classes)
    read = read_features(functools.partial(flat, task=task))
    made = from_linen(module, task, inputs=read, conv="direct", cuts=cuts)
    if not hidden:
        return made

    def first(params: Params, columns: Columns, key: Key | None) -> Array:
        x = flat(columns["features"], task)
        part: Any = _Dense(hidden, task.classes, "first")
        found: Array = part.apply({"params": params}, x)
        return found

    def second(params: Params, x: Array, key: Key | None) -> Array:
        part: Any = _Dense(hidden, task.classes, "others")
        found: Array = part.apply({"params": params}, x)
        return found

    return made._replace(halves=Halves(first, second, hidden[:1]))
