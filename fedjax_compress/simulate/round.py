"""One federated round as one program: chunks of vmapped lanes under a scan.

The functions here are pure and traceable; ``engine`` compiles them. What runs where::

    broadcast
      -> scan over chunks [ vmap over lanes [ unicast, client, reduce ], sum ]
      -> psum over devices
      -> server

No array of the size cohort x parameters exists: reports are reduced chunk by chunk.
Only where an algorithm has them stacked is there one of cohort x what it stacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import tree
from fedjax_compress.clients import ClientData
from fedjax_compress.simulate import handed_in
from fedjax_compress.simulate.chunk import (
    Fixed,
    Hub,
    Kept,
    LaneRecord,
    Seats,
    _sizes,
    run_chunk,
    server_context,
)
from fedjax_compress.simulate.plan import DUMMY
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    Key,
    Metrics,
    Server,
    Stacked,
    Tier,
    Tree,
)


class RoundRecord(NamedTuple):
    """What one round tells.

    Attributes:
      lanes: the lanes' records.
      down, nominal_down: int32 scalars, bytes of the one broadcast message; 0 if it is
        empty.
      server: what the algorithm observes of the server after the round.
      finite: bool scalar, whether the model is finite after the round. If it is not,
        the round has left the server as it was before.
    """

    lanes: LaneRecord
    down: Array
    nominal_down: Array
    server: Metrics
    finite: Array


class Meet(NamedTuple):
    """How devices talk; both the identity on a single one.

    Attributes:
      add: a tree -> its sum over devices.
      gather: leaves [chunks, ...] -> those of all devices, [chunks of all, ...].
    """

    add: Callable[[Tree], Tree]
    gather: Callable[[Tree], Tree]


class Layout(NamedTuple):
    """How a round's program is laid out; static.

    Attributes:
      resident: client states live on the device between rounds.
      gaps: a device may get chunks without a single client; they are skipped.
    """

    resident: bool = True
    gaps: bool = False


def run_round(
    algorithm: Algorithm,
    data: ClientData,
    server: Server,
    store: Tree,
    seats: Seats,
    fixed: Fixed,
    root: Key,
    number: Array,
    meet: Meet,
    layout: Layout,
) -> tuple[Server, Tree, RoundRecord]:
    """One round on one device; ``meet`` joins what all devices have.

    A round without a single usable report leaves the server as the broadcast left it:
    no momentum moves it. One after which the model would not be finite leaves the
    server as it was before, but for what is kept of clients: the caller has to stop.

    Args:
      store: what is kept of clients, leaves [slots, ...] where they are resident, else
        that of the cohort, [chunks, lanes, ...].
      seats: of all chunks of this device, [chunks, lanes].
      fixed: what every step is told in every round.
      root, number: the run's key and the round.
      meet: the only place where devices talk.
    """
    context, before = server_context(root, number, *fixed), server
    message, server = algorithm.broadcast(server, context)
    handed_in.server(server, before, "broadcast")
    view = algorithm.receive(message, context.decoding)
    stacks = algorithm.reduction == "stack"
    hub = Hub(server, view, context, root, stacks)

    def of_tier(tier: Tier) -> Callable[[Kept, Seats], tuple]:
        return _once(lambda kept, seats: run_chunk(tier, hub, data, kept, seats))

    tiers = algorithm.tiers
    each_tier = [of_tier(t) for t in (tiers.each if tiers else [algorithm.tier])]

    def work(kept: Kept, seats: Seats) -> tuple[Acc, Kept, LaneRecord]:
        if algorithm.tiers is None:
            return each_tier[0](kept, seats)
        assert seats.tiers is not None
        return jax.lax.switch(jnp.max(seats.tiers), each_tier, kept, seats)

    def visit(kept: Kept, seats: Seats) -> tuple[Acc, Kept, LaneRecord]:
        if not layout.gaps:
            return work(kept, seats)
        nothing = tree.zeros_like((shape[0], shape[2]))
        return jax.lax.cond(
            jnp.any(seats.ids != DUMMY),
            work,
            lambda kept, seats: (nothing[0], kept, nothing[1]),
            kept,
            seats,
        )

    def read(store: Tree, i: Array, slots: Array) -> Tree:
        if not layout.resident:
            # In a branch of its own, which is always taken: what reads the store here
            # and there while the chunk is computed has XLA copy all of it.
            return jax.lax.cond(
                number >= 0,
                lambda store: jax.tree.map(lambda s: s[i], store),
                lambda store: jax.tree.map(lambda s: jnp.zeros_like(s[0]), store),
                store,
            )
        return jax.tree.map(lambda s: s.at[slots].get(mode="clip"), store)

    def write(store: Tree, i: Array, slots: Array, kept: Tree) -> Tree:
        if not layout.resident:
            return jax.tree.map(lambda s, k: s.at[i].set(k), store, kept)
        put = lambda s, k: s.at[slots].set(k, mode="drop")  # noqa: E731
        return jax.tree.map(put, store, kept)

    def chunk(carry: Any, at: tuple[Array, Seats]) -> tuple[Any, tuple]:
        acc, reports, store = carry
        i, seats = at
        one, kept, record = visit(read(store, i, seats.slots), seats)
        store = write(store, i, seats.slots, kept)
        reports = reports + jnp.sum(record.counts.astype(jnp.float32))
        acc, side = (acc, one) if stacks else (tree.add(acc, one), ())
        return (acc, reports, store), (record, side)

    each = jnp.arange(seats.ids.shape[0]), seats
    i, some = jax.tree.map(lambda x: x[0], each)
    # Of the first tier: all tiers make the same shapes.
    shape = jax.eval_shape(lambda: each_tier[0](read(store, i, some.slots), some))
    start = tree.zeros_like(() if stacks else shape[0])
    carry = (start, jnp.zeros((), jnp.float32), store)
    (acc, reports, store), (lanes, sides) = jax.lax.scan(chunk, carry, each)
    acc, reports = meet.add((acc, reports))
    if stacks:
        acc = _stacked(meet.gather((sides, lanes.counts, seats.ids)))
    stepped = handed_in.server(algorithm.server(server, acc, context), server)
    moved = reports > 0
    model, found = algorithm.network(stepped)
    others = {} if algorithm.others is None else algorithm.others(stepped)
    finite = tree.all_finite((found, [p for _, p in others.values()])) | ~moved
    server = tree.where(finite, server, before)
    # A branch, and no choice element by element, which would be kernels to compile.
    server = jax.lax.cond(finite & moved, lambda: stepped, lambda: server)
    names = handed_in.taken(model, lanes.metrics)
    seen = handed_in.observed(algorithm.observe(server), names)
    return server, store, RoundRecord(lanes, *_sizes(message), seen, finite)


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, traced once for all calls with the same shapes.

    Its shapes are asked for before its results: a client of many small arrays takes
    seconds to trace.
    """
    return jax.jit(function, inline=True)


def _stacked(found: tuple[Acc, Array, Array]) -> Stacked:
    """Accumulators [chunks, lanes, ...] in the order of client ids; dummies last."""
    accs, ok, ids = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    order = jnp.argsort(jnp.where(ids == DUMMY, jnp.iinfo(ids.dtype).max, ids))
    each, ok = jax.tree.map(lambda x: x[order], (accs, ok))
    return Stacked(each, ok)


def run_rounds(
    algorithm: Algorithm,
    data: ClientData,
    server: Server,
    store: Tree,
    seats: Seats,
    fixed: Fixed,
    root: Key,
    first: Array,
    rounds: Array,
    meet: Meet,
    layout: Layout,
) -> tuple[Server, Tree, RoundRecord]:
    """``rounds`` rounds, a traced number of at most the first axis of ``seats``.

    None follows one after which the model was not finite.

    Args:
      seats: [most rounds, chunks of this device, lanes].
      first: the number of the first round.

    Returns:
      Server, store, and records with a leading axis [most rounds]; rows of rounds that
      were not run are zero.
    """
    most = seats.ids.shape[0]

    @_once
    def one(i: Array, server: Server, store: Tree) -> tuple:
        return run_round(
            algorithm, data, server, store, jax.tree.map(lambda x: x[i], seats),
            fixed, root, first + i, meet, layout,
        )  # fmt: skip

    def going(carry: tuple) -> Array:
        i, finite, _, _, _ = carry
        return (i < rounds) & finite

    def body(carry: tuple) -> tuple:
        i, _, server, store, records = carry
        server, store, record = one(i, server, store)
        records = jax.tree.map(lambda all, r: all.at[i].set(r), records, record)
        return i + 1, record.finite, server, store, records

    if most == 1:
        server, store, record = one(jnp.zeros((), jnp.int32), server, store)
        return server, store, jax.tree.map(lambda r: r[None], record)
    shape = jax.eval_shape(one, jnp.zeros((), jnp.int32), server, store)[2]
    records = jax.tree.map(lambda s: jnp.zeros((most, *s.shape), s.dtype), shape)
    start = jnp.zeros((), jnp.int32), jnp.ones((), bool), server, store, records
    return jax.lax.while_loop(going, body, start)[2:]
