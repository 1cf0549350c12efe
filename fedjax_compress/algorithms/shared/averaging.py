"""What all systems share whose server averages what clients send."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import tree
from fedjax_compress.algorithms.shared import exchange
from fedjax_compress.algorithms.shared.needs import trained
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    ClientState,
    Context,
    Key,
    Keys,
    Params,
    Payload,
    Problem,
    Record,
    Report,
    Setup,
    Shard,
    State,
    Tree,
)


class FedAvgServer(NamedTuple):
    """What the server keeps: parameters, optimizer state, downlink residual."""

    params: Params
    optimizer: State
    downlink: State


class Sums(NamedTuple):
    """Accumulator: of the aggregator, and where weights are averaged their weight."""

    sent: Acc
    weight: tuple[Array, ...]


class Sent(NamedTuple):
    """What a client trains and sends, and what the server averages of it.

    Attributes:
      problem: (received parameters, context) -> what the client minimises.
      make: (update, received parameters) -> what is encoded.
      like: parameters -> shapes of what is encoded.
      take: (what was decoded, parameters, context) -> what is averaged.
      stateless: why the uplink may keep no state between rounds; empty if it may.
    """

    problem: Callable[[Params, Context], Problem] = lambda params, context: Problem(
        params
    )
    make: Callable[[Tree, Params], Tree] = lambda update, params: update
    like: Callable[[Params], Tree] = lambda params: params
    take: Callable[[Tree, Params, Context], Tree] = lambda sent, params, context: sent
    stateless: str = ""


UPDATE = Sent()
"""The update, as it is."""


def averaging(
    setup: Setup,
    sent: Sent = UPDATE,
    *,
    of_weights: bool = False,
    before_down: Callable[[Params], Params] = lambda params: params,
) -> Algorithm:
    """The mean of what arrives moves the server's parameters.

    Args:
      setup: what is joined; both links' states are kept, by client and server.
      sent: what travels up.
      of_weights: whether it is weights, of which the mean is to become the parameters.
      before_down: is done to the server's parameters before they are sent.
    """
    local, aggregator, optimizer = setup.local, setup.aggregator, setup.optimizer
    up, down = setup.uplink, setup.downlink

    def init(key: Key, params: Params) -> FedAvgServer:
        return FedAvgServer(params, optimizer.init(params), down.init(params))

    def client_init(params: Params) -> ClientState:
        state = up.init(sent.like(params))
        if sent.stateless:
            exchange.refuse_state(state, sent.stateless)
        key, first = jax.random.key(0), jnp.zeros((), jnp.int32)
        before = Context(Keys(key, key), first, key, params)
        return local.init(sent.problem(params, before).start), state

    def broadcast(
        server: FedAvgServer, context: Context
    ) -> tuple[Payload, FedAvgServer]:
        params = before_down(server.params)
        payload, state = down.encode(params, server.downlink, context.keys)
        return payload, server._replace(downlink=state)

    def receive(payload: Payload, context: Context) -> Params:
        return down.decode(payload, context.params, context.common)

    def client(
        view: Params, alone: Payload, state: ClientState, shard: Shard, context: Context
    ) -> Report:
        memory, residual = state
        problem = sent.problem(view, context)._replace(memory=memory)
        return exchange.report(
            local, problem, shard, context,
            lambda trained: exchange.encode(
                up, sent.make(trained.update, view), residual, context
            ),
        )  # fmt: skip

    def reduce(
        server: FedAvgServer,
        payload: Payload,
        weight: Array,
        record: Record,
        context: Context,
    ) -> tuple[Sums, Record]:
        like = sent.like(context.params)
        found = exchange.decode(up, payload, like, context)
        found = sent.take(found, context.params, context)
        weights = (weight,) if of_weights else ()
        return Sums(aggregator.lift(found, weight), weights), record

    def step(server: FedAvgServer, sums: Sums, context: Context) -> FedAvgServer:
        mean = aggregator.finish(sums.sent)
        if of_weights:
            change = tree.subtract(mean, server.params)
            mean = tree.where(sums.weight[0] > 0, change, tree.zeros_like(change))
        params, state = optimizer.apply(mean, server.optimizer, server.params, context)
        return server._replace(params=params, optimizer=state)

    return Algorithm(
        init, client_init, broadcast, receive, client, reduce, step,
        lambda server: (local.model, server.params),
        trains=trained(local),
    )  # fmt: skip


def folded(context: Context, number: int) -> Key:
    """A key that client and server share, apart from those of the links."""
    return jax.random.fold_in(context.keys.shared, number)
