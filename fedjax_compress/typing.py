"""The central types: small NamedTuples of pure functions, and what passes between them.

Two rules carry the design. An algorithm describes ONE client and ONE server step;
only the engine knows that there are many clients. A payload describes itself: its
size is measured by one generic function, never by a formula of the compressor's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Key = jax.Array
"""A typed key as made by ``jax.random.key``."""
Tree = Any
"""A pytree of arrays."""
Params = Any
State = Any
Payload = Any
"""A pytree whose leaves are all arrays inside ``wire.Field``; what travels."""
Side = Any
"""The part of a payload that one stage adds: a pytree of ``wire.Field``."""
Server = Any
ClientState = Any
Record = Any
View = Any
Acc = Any
Metrics = dict[str, Array]
Columns = dict[str, Any]
"""Rows by name, arrays [rows, ...] of jax or numpy: ``features``, ``labels``,
``lengths``, ``weights``, whatever there is."""
Outputs = Any


class Keys(NamedTuple):
    """The randomness of one hop.

    Attributes:
      private: known to the encoder only (stochastic rounding); None for who decodes.
      shared: known to both ends (rotations, masks, hash functions). It is derived
        from run seed, round and client id, which both ends know: it costs no bits.
    """

    private: Key
    shared: Key

    def fold(self, data: int | Array) -> Keys:
        """Both keys folded with what the part belongs to (a leaf, a stage)."""
        fold = lambda key: jax.random.fold_in(key, data)  # noqa: E731
        return Keys(*jax.tree.map(fold, tuple(self)))


class Context(NamedTuple):
    """What every step of an algorithm is told beside its data: it costs no bits.

    Attributes:
      keys: of this client and round; of the round at the server.
      round: int32 scalar, 0-based.
      common: shared key of the round, the same for all clients and the server.
      params: the parameters before the first round, which follow from the seed.
      inputs: one client's row of the planner's table, scalars by name: ``examples``,
        the number of its rows, and ``tier`` where there are tiers. Empty at the server.
    """

    keys: Keys
    round: Array
    common: Key
    params: Params
    inputs: dict[str, Array] = {}  # noqa: RUF012  (nobody writes to it)

    def fold(self, data: int | Array) -> Context:
        """The same with both keys folded."""
        return self._replace(keys=self.keys.fold(data))

    @property
    def decoding(self) -> Context:
        """The same without the encoder's private key."""
        return self._replace(
            keys=self.keys._replace(private=None)  # type: ignore[arg-type]
        )


class Claims(NamedTuple):
    """What a stage or compressor promises; each promise is tested for what registers.

    Attributes:
      unbiased: E[C(x)] = x over the keys.
      omega: n -> bound on E||C(x) - x||^2 / ||x||^2 for a vector of n elements,
        or None. Only meaningful where ``unbiased``.
      alpha: n -> contraction, E||C(x) - x||^2 <= (1 - alpha(n)) ||x||^2, or None.
      lossless: C(x) = x, bit for bit.
      linear: decode(sum of payloads) = sum of decodes, under one shared key.
      elementwise: element i of C(x) depends on symbol i and on scales only, so that
        symbols may be left out where nobody reads them.
    """

    unbiased: bool = False
    omega: Callable[[int], float] | None = None
    alpha: Callable[[int], float] | None = None
    lossless: bool = False
    linear: bool = False
    elementwise: bool = False


class Stage(NamedTuple):
    """Works on ONE float array; chainable.

    ``encode`` turns an array into a carrier for the next stage (an array, or None
    when everything has been put into the side information) and side information
    that is sent. ``decode`` restores an array of the shape that ``encode`` was given.

    Attributes:
      init: ShapeDtypeStruct -> state, ``()`` when stateless.
      encode: (array, state, keys) -> (carrier or None, side, state).
      decode: (carrier or None, side, shared key) -> array. Has no other channel:
        static facts (shape, number of levels) are static metadata of the side.
      claims: what the stage promises.
    """

    init: Callable[[jax.ShapeDtypeStruct], State]
    encode: Callable[[Array, State, Keys], tuple[Array | None, Side, State]]
    decode: Callable[[Array | None, Side, Key], Array]
    claims: Claims = Claims()


class Compressor(NamedTuple):
    """Works on ONE client's pytree; what algorithms see.

    Attributes:
      init: tree -> state, ``()`` when stateless. Only shapes and dtypes are read.
      encode: (tree, state, keys) -> (payload, state).
      decode: (payload, a tree of the right shapes, shared key) -> tree.
      claims: what the compressor promises.
    """

    init: Callable[[Tree], State]
    encode: Callable[[Tree, State, Keys], tuple[Payload, State]]
    decode: Callable[[Payload, Tree, Key], Tree]
    claims: Claims = Claims()


class Batch(NamedTuple):
    """Rows of one client.

    Attributes:
      columns: [batch, ...] each, as stored (uint8 stays uint8 until the model reads
        it).
      mask: [batch], float32; 1 for a real row, 0 for filling.
    """

    columns: Columns
    mask: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shard:
    """One client's rows inside the ragged columns that hold everybody's.

    Invariants: rows start .. start + size - 1 belong to the client;
    0 <= size <= largest. Under vmap over clients ``start`` and ``size`` are mapped,
    the columns and ``largest`` are not, so a loop bound computed from ``largest``
    stays one scalar for the whole chunk of clients.

    Attributes:
      columns: [rows of all clients, ...] each.
      start: int32 scalar, first row of this client.
      size: int32 scalar, number of rows of this client; 0 for a dummy.
      largest: int32 scalar, the largest size among clients that run together.
      rows: int32 [places of all clients], if the columns are a pool that clients
        share: the client's rows are then those that places start .. start + size - 1
        name. None: the client's rows stand in the columns themselves.
    """

    columns: Columns
    start: Array
    size: Array
    largest: Array
    rows: Array | None = None

    def take(self, index: Array, mask: Array) -> Batch:
        """The rows ``index`` [batch] (0-based within the client), masked by ``mask``.

        Masked-out positions read row ``start`` or a valid neighbour and carry mask 0.
        """
        rows = self.start + jnp.where(mask, index, 0)
        if self.rows is not None:
            rows = self.rows.at[rows].get(mode="clip")
        rows = jnp.clip(rows, 0, rows_of(self.columns) - 1)
        taken = {n: jnp.take(x, rows, axis=0) for n, x in self.columns.items()}
        return Batch(taken, mask.astype(jnp.float32))


def rows_of(columns: Columns) -> int:
    """The number of rows of columns."""
    return int(next(iter(columns.values())).shape[0])


Target = Literal["class", "positions", "several", "number"]


class Task(NamedTuple):
    """What a model must fit to.

    Attributes:
      shape: shape of one example's features, without the batch axis.
      classes: number of classes (vocabulary size for text); of numbers that are
        predicted, where those are.
      tokens: whether features are integer tokens rather than numbers or pixels.
      scale: what features are divided by before a network reads them. None: uint8
        pictures by 255, all else by 1.
      target: what ``labels`` hold: ``class``, an integer a row; ``positions``, one for
        each token or pixel; ``several``, 0 or 1 for each class; ``number``, a float or
        ``classes`` of them. None: positions for tokens, else class.
      more: further columns that a model may read: (name, shape of one row, dtype).
    """

    shape: tuple[int, ...]
    classes: int
    tokens: bool = False
    scale: float | None = None
    target: Target | None = None
    more: tuple[tuple[str, tuple[int, ...], str], ...] = ()

    @property
    def predicts(self) -> Target:
        """What ``labels`` hold."""
        return self.target or ("positions" if self.tokens else "class")


PIXEL = 255.0
"""The largest value of a pixel that is stored as a whole number."""


def has_pictures(shape: tuple[int, ...]) -> bool:
    """Whether examples of this shape have two axes longer than one, as pictures."""
    return sum(n > 1 for n in shape) >= 2


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
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Columns, Key | None], Outputs]
    losses: Callable[[Outputs, Columns], tuple[Array, Array]]
    metrics: dict[str, Metric]
    cuts: Cuts | None = None
    constrain: Callable[[Params], Params] | None = None
    quantized: Quantized | None = None
    frozen: Callable[[], dict[str, Any]] | None = None


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
        (number of rows it learns from), and a user's own.
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
      init: start -> memory before a client's first round, ``()`` if it keeps nothing.
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


class Setup(NamedTuple):
    """What an algorithm joins: one object, so that a new part changes no signature.

    Attributes:
      local: what a client computes.
      aggregator: how updates are averaged, weighted by each client's examples.
      optimizer: the server's step.
      uplink: compressor of what clients send.
      downlink: compressor of what the server sends.
    """

    local: LocalUpdate
    aggregator: Aggregator
    optimizer: ServerOptimizer
    uplink: Compressor
    downlink: Compressor


class Report(NamedTuple):
    """What one client hands in.

    Attributes:
      payload: the message, measured by the engine with ``wire.size``.
      weight: float32 scalar, its weight in the mean: the number of examples, which is
        registered with the client and not counted.
      state: the client's state after the round.
      metrics: ``loss``, ``examples``, and whatever else; nothing of it travels.
      ok: bool scalar, False where the update is not finite. The engine adds its own
        look at the accumulator and the new state. If anything is not finite, the
        client is left out of the mean, it keeps its old state and the server its old
        record of it; its bytes are counted all the same.
    """

    payload: Payload
    weight: Array
    state: ClientState
    metrics: Metrics
    ok: Array


class Tier(NamedTuple):
    """What clients of one kind do, and the server with them; as in ``Algorithm``."""

    unicast: Callable[[Server, Record, Context], Payload]
    client: Callable[[View, Payload, ClientState, Shard, Context], Report]
    reduce: Callable[[Server, Payload, Array, Record, Context], tuple[Acc, Record]]


class Tiers(NamedTuple):
    """Clients that train models of unequal sizes, a few kinds of them.

    Only clients of one tier run side by side. Accumulators, client states and records
    have the same shapes in all tiers.

    Attributes:
      of: (run seed, round, client ids int [n]) -> tier of each, int [n]; on the host.
      each: what the clients of each tier do.
      work: relative cost of training on one row, for each tier.
    """

    of: Callable[[int, int, Any], Any]
    each: tuple[Tier, ...]
    work: tuple[float, ...]


class Stacked(NamedTuple):
    """The accumulators of a cohort side by side, in the order of client ids.

    Attributes:
      each: leaves [seats, ...]; zeros where there is no usable report.
      ok: bool [seats], where there is one.
    """

    each: Acc
    ok: Array


class Beginning(NamedTuple):
    """What one client does before the first round.

    Attributes:
      client: its id.
      run: (server, its rows, context) -> server; compiled as a program of its own.
    """

    client: int
    run: Callable[[Server, Shard, Context], Server]


class Algorithm(NamedTuple):
    """ONE client and ONE server step; nothing but payloads passes between the two.

    In the order of a round; what is decoded follows from payloads and from what both
    ends know without a word, the context.

    Attributes:
      init: (key, params) -> server.
      client_init: params -> state of a client that has never taken part, ``()`` when
        stateless; it stays with the client.
      broadcast: (server, context) -> (payload to all clients, server).
      receive: (payload, context) -> view, what every client decodes of it; done once.
      client: (view, payload to it alone, its state, its rows, context) -> Report.
      reduce: (server, payload of a report, its weight, record, context) ->
        (accumulator, record): decode and lift one report.
      server: (server, accumulator, context) -> server; its result is not taken in a
        round without a single usable report.
      network: server -> (model, parameters) to evaluate; the model is None if unknown.
      unicast: (server, record, context of the client) -> payload to this client alone,
        ``()`` for nothing.
      record_init: params -> what the server keeps of each client, ``()`` for nothing.
      reduction: ``sum`` of the accumulators; or ``stack``: ``server`` gets ``Stacked``,
        which costs memory for each client of a cohort.
      observe: server after a round -> scalars worth a record, such as the density of
        each layer.
      tiers: clients of unequal kinds; None where all do the same. Where there are
        tiers, ``unicast``, ``client`` and ``reduce`` are those of the first.
      begin: what one client does before the first round; None for nothing.
      trains: the models that clients train, one for each tier; none if unknown.
    """

    init: Callable[[Key, Params], Server]
    client_init: Callable[[Params], ClientState]
    broadcast: Callable[[Server, Context], tuple[Payload, Server]]
    receive: Callable[[Payload, Context], View]
    client: Callable[[View, Payload, ClientState, Shard, Context], Report]
    reduce: Callable[[Server, Payload, Array, Record, Context], tuple[Acc, Record]]
    server: Callable[[Server, Acc, Context], Server]
    network: Callable[[Server], tuple[Model | None, Params]]
    unicast: Callable[[Server, Record, Context], Payload] = lambda *given: ()
    record_init: Callable[[Params], Record] = lambda params: ()
    reduction: Literal["sum", "stack"] = "sum"
    observe: Callable[[Server], Metrics] = lambda server: {}
    tiers: Tiers | None = None
    begin: Beginning | None = None
    trains: tuple[Model, ...] = ()

    @property
    def tier(self) -> Tier:
        """What clients do where there are no tiers; else those of the first."""
        return Tier(self.unicast, self.client, self.reduce)
