"""Clients that nobody waits for: buffered and plain asynchronous averaging."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import registry, tree
from fedjax_compress.algorithms.shared import exchange
from fedjax_compress.algorithms.shared.needs import trained
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    Asynchronous,
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

Against = Literal["start", "current"]


class Ring(NamedTuple):
    """What the server keeps.

    Attributes:
      params, optimizer, downlink: as in ``fedavg``.
      sent: the messages of the last ``max_staleness`` + 1 versions, leaves
        [versions, ...]; version v stands at v modulo their number.
    """

    params: Params
    optimizer: State
    downlink: State
    sent: Payload


@registry.register("algorithm", context=1)
@of_checked_parts
def fedbuff(
    setup: Setup,
    concurrency: int = 0,
    exponent: float = 0.5,
    max_staleness: int = 20,
) -> Algorithm:
    """FedBuff: the server steps whenever a cohort of updates has come in.

    M clients train all the time. One that has finished delivers Delta_i = v' - v, where
    v is what it was sent, tau_i server steps ago, and a new one begins at once. After
    K deliveries, K being ``cohort``, the server's optimizer is applied to

        sum_i n_i (1 + tau_i)^-exponent Delta_i / sum_i n_i

    Needs a clock; the figures of a record are those of K deliveries, and ``staleness``
    is the mean of their tau.

    Travels: down, the downlink's fields for the parameters, to each client that begins;
    up, the uplink's fields for the update. What clients are still at in the end is not
    counted.

    Args:
      setup: what is joined; links may keep states.
      concurrency: M; 0 takes ten times the cohort, or all clients but a cohort if that
        is fewer, and at least a cohort.
      exponent: at least 0; 0 weighs all alike.
      max_staleness: a delivery of a larger tau is thrown away; its bytes count. So many
        messages and one more are kept.

    Raises:
      InputError: a number out of its range.

    Reference: Nguyen et al. 2022, algorithm 1; the weight is FedScale's and FLSim's.
    Deviations: the mean has the weights n_i of the aggregator; the paper's 1 / K is
    ``mean(weight=uniform)``. Who delivers next follows from sizes as they are foreseen:
    where they depend on values from the mean of the step before, at first from the
    width of symbols.
    """
    return _asynchronous(setup, concurrency, exponent, max_staleness, "start")


@registry.register("algorithm", context=1)
@of_checked_parts
def fedasync(
    setup: Setup,
    concurrency: int = 0,
    exponent: float = 0.5,
    max_staleness: int = 20,
) -> Algorithm:
    """FedAsync: what comes in is mixed into the server's parameters.

    As ``fedbuff``, but the update of client i is counted from the server's present
    parameters w, not from those that it was sent:

        (1 + tau_i)^-exponent (v_i + Delta_i - w)

    With a cohort of 1 and ``fedavg(lr=alpha)`` as server, w becomes
    (1 - alpha_i) w + alpha_i y_i with alpha_i = alpha (1 + tau_i)^-exponent.

    Travels: as in ``fedbuff``.

    Args:
      setup, concurrency, exponent, max_staleness: as in ``fedbuff``.

    Raises:
      InputError: a number out of its range.

    Reference: Xie et al. 2019, algorithm 1 and its polynomial weight (from memory).
    """
    return _asynchronous(setup, concurrency, exponent, max_staleness, "current")


def _asynchronous(
    setup: Setup, concurrency: int, exponent: float, oldest: int, against: Against
) -> Algorithm:
    if concurrency < 0 or oldest < 0 or not 0 <= exponent <= 100:
        raise InputError(
            "concurrency and max_staleness must be at least 0 and exponent from 0 to "
            f"100, not {concurrency}, {oldest} and {exponent:g}"
        )
    local, aggregator, optimizer = setup.local, setup.aggregator, setup.optimizer
    up, down = setup.uplink, setup.downlink
    versions = oldest + 1

    def init(key: Key, params: Params) -> Ring:
        state = down.init(params)
        one = jax.eval_shape(
            lambda p, s: down.encode(p, s, Keys(key, key))[0], params, state
        )
        ring = jax.tree.map(lambda x: jnp.zeros((versions, *x.shape), x.dtype), one)
        return Ring(params, optimizer.init(params), state, ring)

    def client_init(params: Params) -> ClientState:
        return local.init(params), up.init(params)

    def broadcast(server: Ring, context: Context) -> tuple[Payload, Ring]:
        message, state = down.encode(server.params, server.downlink, context.keys)
        place = context.round % versions
        ring = jax.tree.map(lambda r, m: r.at[place].set(m), server.sent, message)
        return (), server._replace(downlink=state, sent=ring)

    def received(message: Payload, context: Context) -> Params:
        return down.decode(message, context.params, context.common)

    def sent_to(server: Ring, context: Context) -> Payload:
        """The message of the round in which the client has begun: its context's."""
        return jax.tree.map(lambda r: r[context.round % versions], server.sent)

    def unicast(server: Ring, record: Record, context: Context) -> Payload:
        return sent_to(server, context)

    def client(
        view: Payload,
        alone: Payload,
        state: ClientState,
        shard: Shard,
        context: Context,
    ) -> Report:
        memory, residual = state
        problem = Problem(received(alone, context), memory=memory)
        return exchange.report(
            local, problem, shard, context,
            lambda done: exchange.encode(up, done.update, residual, context),
        )  # fmt: skip

    def reduce(
        server: Ring, payload: Payload, weight: Array, record: Record, context: Context
    ) -> tuple[Acc, Record]:
        update = exchange.decode(up, payload, context.params, context)
        if against == "current":
            start = received(sent_to(server, context), context)
            update = tree.subtract(tree.add(start, update), server.params)
        age = context.inputs.get("staleness", jnp.zeros((), jnp.int32))
        share = (1.0 + age.astype(jnp.float32)) ** -exponent
        update = jax.tree.map(lambda u: (share * u).astype(u.dtype), update)
        return aggregator.lift(update, weight), record

    def step(server: Ring, acc: Acc, context: Context) -> Ring:
        mean: Tree = aggregator.finish(acc)
        params, state = optimizer.apply(mean, server.optimizer, server.params, context)
        return server._replace(params=params, optimizer=state)

    return Algorithm(
        init, client_init, broadcast, lambda payload, context: (), client, reduce, step,
        lambda server: (local.model, server.params),
        unicast=unicast,
        trains=trained(local),
        asynchronous=Asynchronous(concurrency, oldest),
    )  # fmt: skip
