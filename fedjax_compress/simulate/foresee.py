"""What one client of a round is sent and sends, traced without computing anything."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import wire
from fedjax_compress.clients import ClientData, group
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.simulate.chunk import client_context, server_context
from fedjax_compress.typing import Algorithm, Params, Payload, Tier

Rows = tuple[tuple[int, int], ...]


class Messages(NamedTuple):
    """The bytes of a round's messages, for a client of each tier.

    Attributes:
      down: broadcast and what is sent to the client alone.
      up: its report.
      exact: they do not depend on any value; else each symbol has the bits that its
        alphabet takes.
      down_rows, up_rows: for each tier, of the messages that hold rows, (bits of a row,
        room for rows): ``down`` and ``up`` are of those that are full.
    """

    down: tuple[int, ...]
    up: tuple[int, ...]
    exact: bool
    down_rows: tuple[Rows, ...] = ((),)
    up_rows: tuple[Rows, ...] = ((),)

    def bytes_of(self, tiers: np.ndarray, rows: np.ndarray) -> tuple[Any, Any]:
        """Float64 [n] each, down and up, of clients with so many rows.

        A message of rows has as many as the client, if there is room.
        """
        both = (self.down, self.down_rows), (self.up, self.up_rows)
        found = []
        for full, holds in both:
            size = np.asarray(full, float)[tiers]
            for tier, each in enumerate(holds):
                for bits, room in each:
                    empty = room - np.minimum(rows, room)
                    size = size - np.where(tiers == tier, empty * bits / 8, 0.0)
            found.append(size)
        return found[0], found[1]


def messages(algorithm: Algorithm, data: ClientData, params: Params) -> Messages:
    """The sizes of messages as far as they follow from shapes."""
    few = some(data, np.arange(1), 1)
    tiers = [algorithm.tier] if algorithm.tiers is None else algorithm.tiers.each
    found: list[list[tuple[int, bool]]] = []
    rows: list[tuple[Rows, Rows]] = []

    def client(tier: Tier) -> Any:
        *down, up = one_client(algorithm, tier, few, params)
        # Nothing at all is no message; a report always is one.
        sent = [wire.foreseen(m) if jax.tree.leaves(m) else (0, True) for m in down]
        found.append([*sent, wire.foreseen(up)])
        held = [wire.foreseen_rows(m) for m in (*down, up)]
        rows.append(((*held[0], *held[1]), held[2]))
        return ()

    for tier in tiers:
        jax.eval_shape(lambda tier=tier: client(tier))
    return Messages(
        tuple(each[0][0] + each[1][0] for each in found),
        tuple(each[2][0] for each in found),
        all(exact for each in found for _, exact in each),
        tuple(down for down, _ in rows),
        tuple(up for _, up in rows),
    )


def one_client(
    algorithm: Algorithm, tier: Tier, data: ClientData, params: Params
) -> tuple[Payload, Payload, Payload]:
    """Broadcast, message to it alone and report of the first client; to be traced."""
    root, zero = root_key(0), jnp.zeros((), jnp.int32)
    context = server_context(root, zero, params, algorithm.public)
    server = algorithm.init(root, params)
    broadcast, server = algorithm.broadcast(server, context)
    view, size = algorithm.receive(broadcast, context), data.size_of(zero)
    inputs = {"client": zero, "examples": size, "tier": zero}
    mine = client_context(context, root, zero, inputs)
    alone = tier.unicast(server, algorithm.record_init(params), mine)
    state, shard = algorithm.client_init(params), data.shard(zero, size)
    report = tier.client(view, alone, state, shard, mine)
    return broadcast, alone, report.payload


def some(data: ClientData, ids: np.ndarray, most: int) -> ClientData:
    """The first rows of a few clients, who are numbered anew; ``most`` of each."""
    offsets = np.asarray(data.offsets)
    sizes = np.minimum(np.diff(offsets)[ids], most)
    owner = np.repeat(np.arange(len(ids)), sizes)
    places = np.concatenate(
        [offsets[c] + np.arange(n) for c, n in zip(ids, sizes, strict=True)]
    ).astype(int)
    return group(data.taken(places), owner, len(ids))
