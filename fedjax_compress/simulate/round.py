"""One federated round as one program: chunks of vmapped lanes under a scan.

The functions here are pure and traceable; ``engine`` compiles them. What runs where::

    broadcast
      -> scan over chunks [ vmap over lanes [ client, encode, decode, lift ], sum ]
      -> psum over devices
      -> server

No array of the size cohort x parameters exists: reports are reduced chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import tree, wire
from fedjax_compress.clients import ClientData
from fedjax_compress.simulate.plan import DUMMY
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    Coin,
    Key,
    Server,
    Tree,
    View,
)

AXIS = "clients"
_BROADCAST, _CLIENT = 0, 1
_PRIVATE, _SHARED = 0, 1


class LaneRecord(NamedTuple):
    """What each lane of a round tells the ledger; all arrays [..., lanes].

    Only the lanes of real clients mean anything.

    Attributes:
      up: int32, bytes of the client's packed message.
      nominal_up: int32, paper-style bytes of the same.
      ok: bool, False for a report that is not finite, and for a dummy.
      loss: float32, mean training loss of the client.
      examples: float32, rows that the client learned from.
    """

    up: Array
    nominal_up: Array
    ok: Array
    loss: Array
    examples: Array


class RoundRecord(NamedTuple):
    """The lanes' records, and bytes of the one broadcast message (int32 scalars)."""

    lanes: LaneRecord
    down: Array
    nominal_down: Array


def broadcast_coin(root: Key, number: Array) -> Coin:
    """The coin of the downlink in round ``number`` (0-based)."""
    key = jax.random.fold_in(jax.random.fold_in(root, number), _BROADCAST)
    return Coin(jax.random.fold_in(key, _PRIVATE), jax.random.fold_in(key, _SHARED))


def client_coin(root: Key, number: Array, client: Array) -> Coin:
    """The coin of one client in round ``number``; depends on its id, not its lane."""
    key = jax.random.fold_in(jax.random.fold_in(root, number), _CLIENT)
    private = jax.random.fold_in(key, _PRIVATE)
    shared = jax.random.fold_in(key, _SHARED)
    return Coin(jax.random.fold_in(private, client), jax.random.fold_in(shared, client))


def run_chunk(
    algorithm: Algorithm,
    view: View,
    data: ClientData,
    store: Tree,
    ids: Array,
    slots: Array,
    root: Key,
    number: Array,
) -> tuple[Acc, Tree, LaneRecord]:
    """One chunk: every lane's report, summed, and the states it leaves behind.

    Args:
      algorithm: what each client does.
      view: the broadcast model as decoded.
      data: all clients' rows.
      store: client states, leaves [slots of this device, ...].
      ids: int32 [lanes], client ids, ``DUMMY`` where the lane is empty.
      slots: int32 [lanes], where each client's state stands in ``store``; out of
        range for a dummy.
      root, number: the run's key and the round.
    """
    real = ids != DUMMY
    client = jnp.where(real, ids, data.clients)
    largest = jnp.max(jnp.diff(data.offsets, append=data.offsets[-1:])[client])
    states = jax.tree.map(lambda s: s.at[slots].get(mode="clip"), store)

    def lane(client: Array, real: Array, state: Tree) -> tuple:
        coin = client_coin(root, number, client)
        shard = data.shard(client, largest)
        report = algorithm.client(view, state, shard, coin)
        acc = algorithm.reduce(view, report, coin.shared)
        ok = report.ok & tree.all_finite((acc, report.state)) & real
        record = LaneRecord(
            wire.size(report.payload),
            wire.nominal_size(report.payload),
            ok,
            report.metrics["loss"],
            report.metrics["examples"],
        )
        kept = tree.where(ok, report.state, state)
        return tree.where(ok, acc, tree.zeros_like(acc)), kept, record

    accs, kept, record = jax.vmap(lane)(client, real, states)
    total = jax.tree.map(lambda a: jnp.sum(a, axis=0), accs)
    store = jax.tree.map(lambda s, k: s.at[slots].set(k, mode="drop"), store, kept)
    return total, store, record


def run_round(
    algorithm: Algorithm,
    data: ClientData,
    server: Server,
    store: Tree,
    ids: Array,
    slots: Array,
    root: Key,
    number: Array,
    meet: Callable[[Tree], Tree],
) -> tuple[Server, Tree, RoundRecord]:
    """One round on one device; ``meet`` adds the accumulators of all devices.

    A round without a single usable report leaves the server as the broadcast left it:
    no momentum moves it.

    Args:
      ids, slots: int32 [chunks of this device, lanes].
      meet: the only place where devices talk; the identity on a single device.
    """
    coin = broadcast_coin(root, number)
    view, message, server = algorithm.broadcast(server, coin)

    def chunk(carry: Any, lanes: tuple[Array, Array]) -> tuple[Any, LaneRecord]:
        acc, reports, store = carry
        one, store, record = run_chunk(
            algorithm, view, data, store, *lanes, root, number
        )
        reports = reports + jnp.sum(record.ok.astype(jnp.float32))
        return (tree.add(acc, one), reports, store), record

    shape = jax.eval_shape(
        lambda: run_chunk(algorithm, view, data, store, ids[0], slots[0], root, number)[
            0
        ]
    )
    start = (tree.zeros_like(shape), jnp.zeros((), jnp.float32), store)
    (acc, reports, store), lanes = jax.lax.scan(chunk, start, (ids, slots))
    acc, reports = meet((acc, reports))
    server = tree.where(reports > 0, algorithm.server(server, acc), server)
    record = RoundRecord(lanes, wire.size(message), wire.nominal_size(message))
    return server, store, record


def run_rounds(
    algorithm: Algorithm,
    data: ClientData,
    server: Server,
    store: Tree,
    ids: Array,
    slots: Array,
    root: Key,
    first: Array,
    rounds: Array,
    meet: Callable[[Tree], Tree],
) -> tuple[Server, Tree, RoundRecord]:
    """``rounds`` rounds, a traced number of at most ``ids.shape[0]``.

    Args:
      ids, slots: int32 [most rounds, chunks of this device, lanes].
      first: the number of the first round.

    Returns:
      Server, store, and records with a leading axis [most rounds]; rows past
      ``rounds`` are zero.
    """

    def one(i: Array, server: Server, store: Tree) -> tuple:
        return run_round(
            algorithm, data, server, store, ids[i], slots[i], root, first + i, meet
        )

    def body(i: Array, carry: tuple) -> tuple:
        server, store, records = carry
        server, store, record = one(i, server, store)
        records = jax.tree.map(lambda all, r: all.at[i].set(r), records, record)
        return server, store, records

    if ids.shape[0] == 1:
        server, store, record = one(jnp.zeros((), jnp.int32), server, store)
        return server, store, jax.tree.map(lambda r: r[None], record)
    shape = jax.eval_shape(lambda: one(jnp.zeros((), jnp.int32), server, store)[2])
    records = jax.tree.map(
        lambda s: jnp.zeros((ids.shape[0], *s.shape), s.dtype), shape
    )
    return jax.lax.fori_loop(0, rounds, body, (server, store, records))
