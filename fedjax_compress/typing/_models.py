"""Models of pure functions, and figures that are sums until they are finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

from fedjax_compress.typing._compress import Compressor
from fedjax_compress.typing._rounds import Array, Columns, Key, Outputs, Params, Tree


class Tie(NamedTuple):
    """An axis of a parameter that follows a group of units.

    The axis has outer * units * inner elements in C order: element
    (o * units + u) * inner + i belongs to unit u. A dense layer that reads a flattened
    image [height, width, channels] is tied with outer = height * width; the four gates
    of an LSTM, side by side, with outer = 4.

    Attributes:
      group: name of the group.
      outer: blocks that hold each unit once.
      inner: neighbouring elements of a unit in a block.
    """

    group: str
    outer: int = 1
    inner: int = 1


class Cuts(NamedTuple):
    """Along which axes a model can be cut.

    Cutting a group keeps some of its units. Invariant: a model cut to some units gives
    the outputs of the whole model in which all parameters of the others are zero (where
    weights are quantized: of which each cut has scales of its own).

    Attributes:
      groups: units of each group, by its name, in the order of the layers.
      ties: for each parameter, by its path ("conv_1/kernel"), what each of its axes
        follows; None for an axis that is never cut. The last axis of a parameter is
        what its layer makes, the others are what it reads.
      narrow: units of each group -> the same network of that size, whose parameters
        have the same paths.
      outputs: paths of the parameters whose last axis has an element for each class.
    """

    groups: dict[str, int]
    ties: dict[str, tuple[Tie | None, ...]]
    narrow: Callable[[dict[str, int]], Model]
    outputs: tuple[str, ...] = ("output/kernel", "output/bias")


class Metric(NamedTuple):
    """A sum over rows and what finishes it, so that it is exact over batches, clients
    and rows that count for more than one.

    Attributes:
      count: (params, columns, outputs) -> tree of float32 [batch, ...], added up.
      finish: the sums -> the figure, a scalar; NaN or 0 where nothing was counted.
      better: ``higher`` or ``lower``.
      unit: ``%`` for a share of 1, ``nats``, or empty.
    """

    count: Callable[[Params, Columns, Outputs], Tree]  # type: ignore[assignment]
    finish: Callable[[Tree], Array]
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""


@jax.tree_util.register_pytree_node_class
class Counted:
    """Sums of a ``Metric`` in a client's report, for what no mean over clients gives:
    the round's figure is finished from the sums over all clients.

    Attributes:
      metric: what finishes them.
      sums: as ``metric.count`` gives, added up over rows.
    """

    def __init__(self, metric: Metric, sums: Tree):
        self.metric, self.sums = metric, sums

    def tree_flatten(self) -> tuple[tuple[Tree], _Finish]:
        """For jax: the sums are arrays, the metric is static."""
        return (self.sums,), _Finish(self.metric)

    @classmethod
    def tree_unflatten(cls, static: _Finish, children: tuple[Tree]) -> Counted:
        """For jax."""
        return cls(static.metric, *children)


class _Finish:
    """A metric that equals another made by the same lines: each trace may make one."""

    def __init__(self, metric: Metric):
        self.metric = metric
        self._code = getattr(metric.finish, "__code__", metric.finish)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Finish) and self._code == other._code

    def __hash__(self) -> int:
        return hash(self._code)


class Quantized(NamedTuple):
    """What quantization-aware training adds to a model.

    Attributes:
      compressor: sends the parameters as the model computes with them.
      keeps_zeros: whether a weight of zero is zero in what the model computes with.
      keeps_scale: whether weights c times as large are so in what it computes with.
    """

    compressor: Compressor
    keeps_zeros: bool = True
    keeps_scale: bool = True


class Halves(NamedTuple):
    """A network as two, one after the other: second(first(columns)) is its outputs.

    Attributes:
      first: (params, columns [batch, ...], key or None) -> float32 [batch, *shape].
      second: (params, what the first made, key or None) -> outputs.
      shape: of what the first makes of one row.
    """

    first: Callable[[Params, Columns, Key | None], Array]
    second: Callable[[Params, Array, Key | None], Outputs]
    shape: tuple[int, ...]


class Model(NamedTuple):
    """Pure functions over a nested dict of parameters.

    Attributes:
      init: key -> params.
      apply: (params, columns [batch, ...], key or None) -> outputs, any pytree. A key
        means training (dropout is on), None means evaluation. Integer pixels are scaled
        to [0, 1] here, integer tokens are embedded.
      losses: (outputs, columns) -> (value, weight), both float32 [batch]: the loss of
        each row and what it counts for, such as its number of tokens. Clients minimise
        sum(value weight) / sum(weight) of a batch.
      metrics: figures by name; the first is what plots, targets and stop rules take.
      cuts: along which axes the model can be cut, or None if along none.
      constrain: params -> params, done after each local step, as clipping is where
        weights are binary; None for no change. It changes each element by itself.
      quantized: what quantization-aware training adds, or None.
      frozen: makes parameters beside the trained ones, by path, that each client is
        sent before its first round; None where both ends have them, or there are none.
      halves: where it can be parted, or None.
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Columns, Key | None], Outputs]
    losses: Callable[[Outputs, Columns], tuple[Array, Array]]
    metrics: dict[str, Metric]
    cuts: Cuts | None = None
    constrain: Callable[[Params], Params] | None = None
    quantized: Quantized | None = None
    frozen: Callable[[], dict[str, Any]] | None = None
    halves: Halves | None = None
