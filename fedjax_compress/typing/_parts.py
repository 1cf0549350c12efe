"""What one client minimises and computes; the parts that an algorithm joins."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from fedjax_compress.typing._compress import Compressor
from fedjax_compress.typing._data import Shard, Task
from fedjax_compress.typing._models import Model
from fedjax_compress.typing._rounds import (
    Acc,
    Array,
    Columns,
    Context,
    Metrics,
    Params,
    State,
    Tree,
)


class Problem(NamedTuple):
    """What a client minimises over free parameters x, from ``start``:

      loss(lift(x)) + <shift, x> + mu / 2 ||lift(x) - anchor||^2

    Attributes:
      start: x before the first step.
      lift: x -> parameters of the model, differentiable.
      anchor: parameters; None for ``lift(start)``.
      mu: weight of the distance, which a local update may add to.
      shift: like ``start``, added to each gradient; None for nothing.
      model: number of the local step, a scalar that all clients share -> the model to
        train at that step; None for the one that the local update was made with.
      memory: what the local update has kept since the client's last round.
    """

    start: Tree
    lift: Callable[[Tree], Params] = lambda free: free
    anchor: Params | None = None
    mu: float | Array = 0.0
    shift: Tree | None = None
    model: Callable[[Array], Model] | None = None
    memory: State = ()


class Trained(NamedTuple):
    """What local training leaves.

    Attributes:
      update: free parameters after training minus ``start``.
      memory: kept by the client for its next round.
      metrics: scalars; at least ``loss`` (mean over the examples seen) and ``examples``
        (number of rows it learns from), and a user's own, which may be ``Counted``.
    """

    update: Tree
    memory: State
    metrics: Metrics


class LocalUpdate(NamedTuple):
    """What one client computes on its own data.

    Attributes:
      run: (problem, shard, context) -> Trained.
      gradient: (problem, shard, context) -> gradient of the problem at ``start`` over
        all rows of the client, like ``start``; None if it cannot tell.
      init: start -> memory before a client's first round, ``()`` if it keeps nothing;
        it may have the shapes of ``start``, unless clients differ in size.
      model: the model that it trains, for algorithms that cut it; None if unknown.
      seen: number of a client's rows -> how many rows ``run`` learns from, each as
        often as it is seen, float32: both ends know it without a word.
    """

    run: Callable[[Problem, Shard, Context], Trained]
    gradient: Callable[[Problem, Shard, Context], Tree] | None = None
    init: Callable[[Tree], State] = lambda start: ()
    model: Model | None = None
    seen: Callable[[Array], Array] = lambda rows: rows.astype(jnp.float32)


class Aggregator(NamedTuple):
    """A weighted mean in three steps; between lift and finish is plain tree addition.

    Attributes:
      lift: (tree, weight) -> accumulator. The weight is a scalar, or a tree of masks.
      finish: accumulator -> tree. An accumulator of weight zero gives a zero tree.
    """

    lift: Callable[[Tree, Tree], Acc]
    finish: Callable[[Acc], Tree]


class ServerOptimizer(NamedTuple):
    """Moves the server's parameters by an aggregated update.

    Attributes:
      init: params -> state.
      apply: (mean update, state, params, context) -> (params, state).
    """

    init: Callable[[Params], State]
    apply: Callable[[Tree, State, Params, Context], tuple[Params, State]]


class Population(NamedTuple):
    """What is known of all clients before a run.

    Attributes:
      task: what their rows are.
      clients: their number.
      largest: rows of the largest.
    """

    task: Task
    clients: int
    largest: int


class Setup(NamedTuple):
    """What an algorithm joins: one object, so that a new part changes no signature.

    Attributes:
      local: what a client computes.
      aggregator: how updates are averaged, weighted by each client's examples.
      optimizer: the server's step.
      uplink: compressor of what clients send.
      downlink: compressor of what the server sends.
      population: of the run; None where nobody has said.
      public: rows that no client has, on the host; empty for none.
      network: SPEC of a model -> the model for the run's rows, changed and quantized
        as the run's own, or not (second argument false) quantized; None where nobody
        has said.
    """

    local: LocalUpdate
    aggregator: Aggregator
    optimizer: ServerOptimizer
    uplink: Compressor
    downlink: Compressor
    population: Population | None = None
    public: Columns = {}  # noqa: RUF012  (nobody writes to it)
    network: Callable[[str, bool], Model] | None = None
