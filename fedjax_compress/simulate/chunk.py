"""One chunk of a round: what each of its clients is told, does and leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import tree, wire
from fedjax_compress.clients import ClientData
from fedjax_compress.simulate import handed_in
from fedjax_compress.simulate.plan import DUMMY
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    ClientState,
    Columns,
    Context,
    Key,
    Keys,
    Metrics,
    Params,
    Payload,
    Record,
    Server,
    Tier,
    Tree,
    View,
)

COUNTED, REACHED, BEFORE = 0, 1, 2
"""What becomes of a client: its report counts; or it does not, and it keeps the state
that it has reached, or the one from before the round."""
_BROADCAST, _CLIENT = 0, 1
_PRIVATE, _SHARED = 0, 1


class LaneRecord(NamedTuple):
    """What each lane of a round tells the ledger; all arrays [..., lanes].

    Only the lanes of real clients mean anything.

    Attributes:
      up: int32, bytes of the client's packed message.
      nominal_up: int32, paper-style bytes of the same.
      down, nominal_down: int32, likewise of what was sent to the client alone; 0 where
        that is nothing.
      ok: bool, False for a report that is not finite, and for a dummy.
      counts: bool, False besides for one that is not waited for.
      loss: float32, mean training loss of the client.
      examples: float32, rows that the client learned from.
      metrics: float32 each, what else the client tells.
    """

    up: Array
    nominal_up: Array
    down: Array
    nominal_down: Array
    ok: Array
    counts: Array
    loss: Array
    examples: Array
    metrics: Metrics


class Kept(NamedTuple):
    """What is kept of one client between rounds: by itself, and by the server."""

    state: ClientState
    record: Record


def kept_init(algorithm: Algorithm, params: Params) -> Kept:
    """What is kept of a client that has never taken part."""
    return Kept(algorithm.client_init(params), algorithm.record_init(params))


def broadcast_keys(root: Key, number: Array) -> Keys:
    """The keys of the downlink in round ``number`` (0-based)."""
    key = jax.random.fold_in(jax.random.fold_in(root, number), _BROADCAST)
    return Keys(jax.random.fold_in(key, _PRIVATE), jax.random.fold_in(key, _SHARED))


def client_keys(root: Key, number: Array, client: Array) -> Keys:
    """The keys of one client in round ``number``; they follow from its id, not lane."""
    key = jax.random.fold_in(jax.random.fold_in(root, number), _CLIENT)
    private = jax.random.fold_in(key, _PRIVATE)
    shared = jax.random.fold_in(key, _SHARED)
    return Keys(jax.random.fold_in(private, client), jax.random.fold_in(shared, client))


class Fixed(NamedTuple):
    """What every step is told in every round.

    Attributes:
      params: before the first round.
      public: rows of no client.
    """

    params: Params
    public: Columns


def server_context(
    root: Key, number: Array, params: Params, public: Columns | None = None
) -> Context:
    """What the server is told in round ``number``; params are those at the start."""
    keys = broadcast_keys(root, number)
    return Context(keys, number, keys.shared, params, public=public or {})


def client_context(
    server: Context, root: Key, client: Array, inputs: dict[str, Array]
) -> Context:
    """What one client is told in the same round, or in that in which it has begun."""
    if "staleness" in inputs:
        number = server.round - inputs["staleness"]
        common = broadcast_keys(root, number).shared
        server = server._replace(round=number, common=common)
    keys = client_keys(root, server.round, client)
    return server._replace(keys=keys, inputs=inputs)


class Seats(NamedTuple):
    """Who sits in each lane of this device; all int32 [..., lanes].

    Attributes:
      ids: client ids, ``DUMMY`` where the lane is empty.
      places: where each client's rows stand in the data at hand.
      slots: where each client's state stands in the store; out of range for a dummy.
      tiers: the tier of each client, the same in all lanes of a chunk but for dummies,
        which have 0; None where there are no tiers.
      staleness: int32, rounds since each client began; None where all begin now.
      fates: int8, what becomes of each client, ``COUNTED`` and so on; None where all
        count.
    """

    ids: Array
    places: Array
    slots: Array
    tiers: Array | None = None
    fates: Array | None = None
    staleness: Array | None = None


class Hub(NamedTuple):
    """What is the same for all clients of a round.

    Attributes:
      server: after the broadcast.
      view: the broadcast as decoded.
      context: of the server.
      root: the run's key.
      stacks: accumulators are kept side by side, not summed.
    """

    server: Server
    view: View
    context: Context
    root: Key
    stacks: bool


def run_chunk(
    tier: Tier, hub: Hub, data: ClientData, kept: Kept, seats: Seats
) -> tuple[Acc, Kept, LaneRecord]:
    """One chunk: its reports, reduced, and what is kept of its clients.

    Args:
      tier: what each client does.
      hub: what is the same for all.
      data: rows of all clients, or of the cohort.
      kept: of the clients in these lanes, leaves [lanes, ...].
      seats: of one chunk, [lanes].
    """
    real = seats.ids != DUMMY
    ids = jnp.where(real, seats.ids, 0)
    place = jnp.where(real, seats.places, data.clients)
    sizes = data.size_of(place)
    largest = jnp.max(sizes)
    inputs = {"client": ids, "examples": sizes}
    if seats.tiers is not None:
        inputs["tier"] = seats.tiers
    if seats.staleness is not None:
        inputs["staleness"] = seats.staleness

    def lane(
        client: Array,
        place: Array,
        real: Array,
        inputs: dict,
        kept: Kept,
        fate: Array | None,
    ) -> tuple:
        context = client_context(hub.context, hub.root, client, inputs)
        shard = data.shard(place, largest)
        alone = tier.unicast(hub.server, kept.record, context)
        report = handed_in.report(
            tier.client(hub.view, alone, kept.state, shard, context), kept.state
        )
        acc, record = tier.reduce(
            hub.server, report.payload, report.weight, kept.record, context.decoding
        )
        made = Kept(report.state, handed_in.record(record, kept.record))
        ok = report.ok & tree.all_finite((acc, made)) & real
        counts, after = ok, made
        if fate is not None:
            counts = ok & (fate == COUNTED)
            mine = tree.where(counts, made.record, kept.record)
            after = tree.where(fate <= REACHED, Kept(made.state, mine), kept)
        told = LaneRecord(
            *_sizes(report.payload, always=True),
            *_sizes(alone),
            ok,
            counts,
            report.metrics["loss"],
            report.metrics["examples"],
            handed_in.own_metrics(report.metrics),
        )
        return (
            tree.where(counts, acc, tree.zeros_like(acc)),
            tree.where(ok, after, kept),
            told,
        )

    each = ids, place, real, inputs, kept, seats.fates
    accs, kept, told = _every_lane(lane)(*each)
    return (accs if hub.stacks else tree.sum_first(accs)), kept, told


def _sizes(message: Payload, always: bool = False) -> tuple[Array, Array]:
    """True and nominal bytes; 0 for a message without fields unless sent ``always``."""
    if not always and not jax.tree.leaves(message):
        return jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    return wire.size(message), wire.nominal_size(message)


def _every_lane(lane: Callable[..., Any]) -> Callable[..., Any]:
    """``lane`` vmapped; a single lane runs as it is, which XLA can do better."""

    def run(*each: Tree) -> Tree:
        if each[0].shape[0] > 1:
            return jax.vmap(lane)(*each)
        alone = lane(*jax.tree.map(lambda x: x[0], each))
        return jax.tree.map(lambda x: jnp.asarray(x)[None], alone)

    return run
