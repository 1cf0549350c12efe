"""Standing between the layers of a flax network: what each reads, and what it makes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from flax import linen

from fedjax_compress.models.adapt import example
from fedjax_compress.models.convolution.layer import Convolution
from fedjax_compress.typing import Array, Model, Task

LAYERS = (
    linen.Dense, linen.DenseGeneral, linen.Conv, linen.ConvTranspose, linen.ConvLocal,
    Convolution,
)  # fmt: skip
"""Layers that multiply what they read by a kernel, and do nothing else but add."""


class Tap(NamedTuple):
    """What is done to the inputs and outputs of each layer with a kernel.

    Attributes:
      reads: (path of the layer, as "conv_1"; its input) -> what it is given instead.
      makes: (path of the layer, its output) -> what comes out instead.
    """

    reads: Callable[[str, Array], Array] = lambda path, x: x
    makes: Callable[[str, Array], Array] = lambda path, y: y


@contextlib.contextmanager
def tapped(tap: Tap) -> Iterator[None]:
    """Taps the dense layers and convolutions of linen modules applied inside.

    Those of ``LAYERS``: recurrent cells, attention and layers of one's own are passed
    through, and what they are made of is tapped.
    """

    def between(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, LAYERS):
            return call(*args, **kwargs)
        path = "/".join(module.path)
        first, *others = args
        made = call(tap.reads(path, first), *others, **kwargs)
        return tap.makes(path, made)

    with linen.intercept_methods(between):
        yield


def layers_in_order(model: Model, task: Task) -> list[tuple[str, bool]]:
    """The layers with a kernel, in the order in which they are computed.

    Returns:
      The path of each, and whether it reads what the very first one reads, as a
      shortcut around the first block does. Empty for networks that are not made of
      flax.linen modules.
    """
    found: dict[str, bool] = {}
    features: list[Array] = []

    def reads(path: str, x: Array) -> Array:
        features.append(x)
        found.setdefault(path, x is features[0])
        return x

    params = jax.eval_shape(model.init, jax.random.key(0))
    with tapped(Tap(reads)):
        jax.eval_shape(lambda p: model.apply(p, example(task), None), params)
    return list(found.items())
