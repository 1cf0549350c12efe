"""Rounds of an algorithm client by client, without the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from systems import client_told, server_told

from fedjax_compress import tree
from fedjax_compress.simulate.chunk import Kept, kept_init


class Round(NamedTuple):
    """What went to and fro in a round, and what is there after it.

    Attributes:
      server: after the round.
      message: to all clients.
      view: what they decoded of it.
      alone: the message to each client alone.
      reports: of the clients.
      acc: the sum of what they were reduced to.
      kept: of each client.
    """

    server: Any
    message: Any
    view: Any
    alone: list
    reports: list
    acc: Any
    kept: list


def player(
    algorithm, params, data, root=None, compiled: Callable = lambda f: f
) -> Callable[..., Round]:
    """(server, what is kept of each client, number, their tiers) -> Round.

    All clients of ``data`` take part whose ``kept`` is given: None for the first round.

    Args:
      algorithm: the algorithm.
      params: before the first round.
      data: rows by client.
      root: key of the run.
      compiled: ``jax.jit``, or nothing.
    """
    sizes = [int(n) for n in data.sizes]
    broadcast, receive = compiled(algorithm.broadcast), compiled(algorithm.receive)
    step = compiled(algorithm.server)

    def of(tier):
        def run(server, view, kept, shard, context):
            alone = tier.unicast(server, kept.record, context)
            report = tier.client(view, alone, kept.state, shard, context)
            reduced = tier.reduce(
                server, report.payload, report.weight, kept.record, context.decoding
            )
            return alone, report, *reduced

        return compiled(run)

    tiers = algorithm.tiers
    each = [of(tier) for tier in ((algorithm.tier,) if tiers is None else tiers.each)]

    def play(server, kept=None, number=0, tiers=None) -> Round:
        if kept is None:
            kept = [kept_init(algorithm, params)] * len(sizes)
        told = server_told(params, root, number)
        message, server = broadcast(server, told)
        view = receive(message, told.decoding)
        done = []
        for client, (before, size) in enumerate(zip(kept, sizes, strict=False)):
            tier = tiers[client] if tiers else 0
            context = client_told(params, client, root, number, size)
            shard = data.shard(jnp.asarray(client), jnp.asarray(max(sizes)))
            done.append(each[tier](server, view, before, shard, context))
        alone, reports, accs, records = (list(x) for x in zip(*done, strict=True))
        acc = accs[0]
        for other in accs[1:]:
            acc = tree.add(acc, other)
        kept = [Kept(r.state, x) for r, x in zip(reports, records, strict=True)]
        return Round(step(server, acc, told), message, view, alone, reports, acc, kept)

    return play


def begun(algorithm, params):
    """The server before the first round."""
    return algorithm.init(jax.random.key(0), params)
