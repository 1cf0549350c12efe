"""Rounds of an algorithm client by client, with all that passes in the open.

No engine is in between: each step is a program of its own, and every payload goes
through a function of the caller's before the other end sees it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from every_algorithm import COHORT, SEED, cohort_of

from fedjax_compress import tree
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.simulate import beginning
from fedjax_compress.simulate.chunk import (
    Fixed,
    Kept,
    client_context,
    server_context,
)
from fedjax_compress.typing import Stacked


class End:
    """The steps of an algorithm, compiled one by one; one end takes its own of them."""

    def __init__(self, algorithm):
        tiers = algorithm.tiers
        self.algorithm = algorithm
        self.each = [algorithm.tier] if tiers is None else tiers.each
        self.broadcast = jax.jit(algorithm.broadcast)
        self.receive = jax.jit(algorithm.receive)
        self.server = jax.jit(algorithm.server)
        self.unicast = [jax.jit(tier.unicast) for tier in self.each]
        self.client = [jax.jit(tier.client) for tier in self.each]
        self.reduce = [jax.jit(tier.reduce) for tier in self.each]


class Played(NamedTuple):
    """What a round has left.

    Attributes:
      server: after the round.
      accs: the accumulator of each client of the cohort, by its id.
      weights: of their reports.
      kept: state and record of each client of the population.
    """

    server: Any
    accs: dict[int, Any]
    weights: dict[int, Any]
    kept: dict[int, Kept]


def play(ours, theirs, params, data, rounds, passes, at_once=True):
    """Rounds between a server and clients that share what ``passes`` lets through.

    Args:
      ours: the server's End.
      theirs: that of the clients.
      params: before the first round.
      data: rows of all clients.
      rounds: how many.
      passes: (broadcast, unicast or report; the payload; what it will look like, as the
        other end knows it without having seen any) -> the payload as it arrives.
      at_once: a report is reduced when it arrives; else when all clients of the round
        have done their part.

    Yields:
      A ``Played`` after each round.
    """
    algorithm, root, known = ours.algorithm, root_key(SEED), {}

    def sent(kind, tier, payload, step, *given):
        if (kind, tier) not in known:
            known[kind, tier] = jax.eval_shape(step, *given)
        return passes(kind, payload, known[kind, tier])

    server = algorithm.init(jax.random.fold_in(root, 2**31 - 1), params)
    if algorithm.begin is not None:
        fixed = Fixed(params, algorithm.public)
        begin = algorithm.begin, server, fixed, data, root
        server = beginning.compiled(*begin)(server)
    new = Kept(theirs.algorithm.client_init(params), algorithm.record_init(params))
    kept = dict.fromkeys(range(data.clients), new)
    for number in range(rounds):
        context = server_context(
            root, jnp.asarray(number, jnp.int32), params, algorithm.public
        )
        given = server, context
        message, server = ours.broadcast(*given)
        look = lambda *given: theirs.algorithm.broadcast(*given)[0]  # noqa: E731
        message = sent("broadcast", 0, message, look, *given)
        view = theirs.receive(message, context.decoding)
        accs, weights, waiting = {}, {}, []
        for client in cohort_of(number).tolist():
            tier, told, shard = _of_client(algorithm, context, root, data, client)
            given = server, kept[client].record, told
            alone = ours.unicast[tier](*given)
            alone = sent("unicast", tier, alone, theirs.each[tier].unicast, *given)
            given = view, alone, kept[client].state, shard, told
            report = theirs.client[tier](*given)
            look = lambda *given, of=ours.each[tier]: of.client(*given).payload  # noqa: E731
            payload = sent("report", tier, report.payload, look, *given)
            weights[client] = report.weight
            given = server, payload, report.weight, kept[client].record, told.decoding
            waiting.append((client, report.state, ours.reduce[tier], given))
            while waiting and (at_once or len(weights) == COHORT):
                one, state, reduce, given = waiting.pop(0)
                accs[one], record = reduce(*given)
                kept = kept | {one: Kept(state, record)}
        server = ours.server(server, _joined(algorithm, accs), context)
        yield Played(server, accs, weights, kept)


def _joined(algorithm, accs):
    """The accumulators of a cohort as the server gets them, all of them usable."""
    if algorithm.reduction == "sum":
        return functools.reduce(tree.add, accs.values())
    each = [accs[client] for client in sorted(accs)]
    return Stacked(
        jax.tree.map(lambda *x: jnp.stack(x), *each), jnp.ones(len(each), bool)
    )


def _of_client(algorithm, context, root, data, client):
    """Tier, context and rows of a client."""
    size = jnp.asarray(data.sizes[client])
    tier, inputs = 0, {"client": jnp.asarray(client, jnp.int32), "examples": size}
    if algorithm.tiers is not None:
        (tier,) = algorithm.tiers.of(SEED, int(context.round), np.array([client]))
        inputs["tier"] = jnp.asarray(tier, jnp.int32)
    told = client_context(context, root, jnp.asarray(client, jnp.int32), inputs)
    return int(tier), told, data.shard(jnp.asarray(client), size)
