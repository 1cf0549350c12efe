"""One client, one server step, and what crosses between them.

Two rules carry the design. An algorithm describes ONE client and ONE server step;
only the engine knows that there are many clients. A payload describes itself: its
size is measured by one generic function, never by a formula of the compressor's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from fedjax_compress.typing._data import Shard
from fedjax_compress.typing._models import Model
from fedjax_compress.typing._rounds import (
    Acc,
    Array,
    ClientState,
    Columns,
    Context,
    Key,
    Metrics,
    Params,
    Payload,
    Record,
    Server,
    Tree,
    View,
)


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


class Asynchronous(NamedTuple):
    """An algorithm whose clients begin and end at any time; a round is a server step.

    A client's context is that of the round in which it has begun, and its inputs hold
    ``staleness``, how many rounds ago that was.

    Attributes:
      concurrency: clients that train at the same time; 0 chooses.
      max_staleness: reports that are older do not count.
    """

    concurrency: int
    max_staleness: int


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
        which costs memory for each client of a cohort; what no device can hold is
        refused.
      observe: server after a round -> scalars worth a record, such as the density of
        each layer.
      tiers: clients of unequal kinds; None where all do the same. Where there are
        tiers, ``unicast``, ``client`` and ``reduce`` are those of the first.
      begin: what one client does before the first round; None for nothing.
      personal: (parameters of the network, state of a client) -> those that this client
        would use itself; None where they are the network's.
      asynchronous: clients that nobody waits for; None for rounds.
      trains: the models that clients train, one for each tier; none if unknown.
      judged: where part of the network stays with each client: the model of which
        ``personal`` gives the parameters. Test scores are then means over clients.
      public: rows beside those of clients, which every ``context`` holds; on the host.
      others: server -> further networks to evaluate, as in ``network``, by name.
      seen: as of ``LocalUpdate``, where clients compute more than their local update:
        number of a client's rows -> how many it learns from. A row that is only looked
        at counts as a third.
      links: ``uplink`` and ``downlink`` -> shapes of what the link gets, where that is
        not like the parameters.
      averaged: how many parameters a client would send if its network were averaged,
        the mean over clients; None for as many as ``network`` has.
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
    personal: Callable[[Params, ClientState], Params] | None = None
    trains: tuple[Model, ...] = ()
    asynchronous: Asynchronous | None = None
    judged: Model | None = None
    public: Columns = {}  # noqa: RUF012  (nobody writes to it)
    others: Callable[[Server], dict[str, tuple[Model, Params]]] | None = None
    seen: Callable[[Any], Any] | None = None
    links: dict[str, Tree] = {}  # noqa: RUF012
    averaged: float | None = None

    @property
    def tier(self) -> Tier:
        """What clients do where there are no tiers; else those of the first."""
        return Tier(self.unicast, self.client, self.reduce)
