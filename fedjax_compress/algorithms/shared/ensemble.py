"""Groups whose weights are averaged, and a server that learns from all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import tree
from fedjax_compress.algorithms.shared import exchange
from fedjax_compress.algorithms.shared.groups import (
    Groups,
    check_public,
    logits_of,
    public_rows,
)
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    ClientState,
    Columns,
    Compressor,
    Context,
    Key,
    Keys,
    Metrics,
    Model,
    Params,
    Payload,
    Problem,
    Record,
    Report,
    Setup,
    Shard,
    Stacked,
    State,
    Tier,
    Trained,
)

_DOWN, _ROWS, _LEARN = 5, 6, 7


class EnsembleServer(NamedTuple):
    """What the server keeps.

    Attributes:
      groups: parameters of each group's network.
      optimizers, downlinks: state of the server's step and of the downlink, of each.
      sent: what each group is sent in this round.
      own: parameters of a network that the server alone has; () for none.
      told: figures of the last round.
    """

    groups: tuple[Params, ...]
    optimizers: tuple[State, ...]
    downlinks: tuple[State, ...]
    sent: tuple[Payload, ...]
    own: Params
    told: Metrics


class Handed(NamedTuple):
    """Accumulator of one client.

    Attributes:
      sums: of each group, what the aggregator lifts; zeros for those it is not in.
      weight: float32 [groups], its weight; zero for those it is not in.
      logits: float32 [public rows, classes], of the network that it has sent.
    """

    sums: tuple[Acc, ...]
    weight: Array
    logits: Array


class Lesson(NamedTuple):
    """What the server learns from, in one round.

    Attributes:
      rows: the public rows.
      logits: float32 [seats, rows, classes], of each client's network.
      ok: bool [seats], whose count.
      weights: float32 [groups], of those that have handed in anything.
      context: of the server.
    """

    rows: Columns
    logits: Array
    ok: Array
    weights: Array
    context: Context


class Learner(NamedTuple):
    """What the server does with what it has got.

    Attributes:
      learn: (server whose groups have been averaged, lesson) -> server.
      init: key -> parameters of the server's own network.
      told: names of the figures that it tells.
      model: of the server's own network; None if it has none.
    """

    learn: Callable[[EnsembleServer, Lesson], EnsembleServer]
    init: Callable[[Key], Params]
    told: tuple[str, ...]
    model: Model | None = None


def ensemble(
    setup: Setup, groups: Groups, learner: Learner, rows: int, name: str
) -> Algorithm:
    """Clients train the network of their group; the server learns from all networks.

    What travels is a group's parameters down and the update of them up. The server
    averages by group and moves each group by its optimizer, as FedAvg does; what every
    client has handed in makes logits of the round's public rows, from which ``learner``
    goes on. The mean of a group of which nobody has reported stays as it is. What
    clients hand in stands side by side until then: cohort x the parameters of all
    groups, and cohort x public rows x classes.

    Args:
      setup: what is joined; both links' states are kept, by client and server.
      groups: who trains what.
      learner: of the server.
      rows: public rows a round, 0 for all.
      name: of the algorithm.
    """
    local, aggregator, optimizer = setup.local, setup.aggregator, setup.optimizer
    up, down = setup.uplink, setup.downlink
    taken = check_public(setup.public, name, rows)
    count, models = len(groups.models), groups.models
    shapes = tuple(jax.eval_shape(m.init, jax.random.key(0)) for m in models)

    def init(key: Key, params: Params) -> EnsembleServer:
        made = [m.init(jax.random.fold_in(key, i)) for i, m in enumerate(models)]
        made[0] = params
        for group, p in zip(groups.names, made, strict=True):
            for link, way in ((up, "uplink"), (down, "downlink")):
                _fits(link, p, f"{way} on the network of group {group!r}")
        downs = tuple(down.init(p) for p in made)
        first = jax.eval_shape(encode, tuple(made), downs, Keys(key, key))[0]
        return EnsembleServer(
            tuple(made), tuple(optimizer.init(p) for p in made), downs,
            tree.zeros_like(first),
            learner.init(jax.random.fold_in(key, count)),
            {told: jnp.zeros((), jnp.float32) for told in learner.told},
        )  # fmt: skip

    def encode(params: tuple, states: tuple, keys: Keys) -> tuple[tuple, tuple]:
        each = [
            down.encode(p, s, keys.fold(_DOWN).fold(i))
            for i, (p, s) in enumerate(zip(params, states, strict=True))
        ]
        return tuple(m for m, _ in each), tuple(s for _, s in each)

    def down_key(group: int, context: Context) -> Key:
        return jax.random.fold_in(jax.random.fold_in(context.common, _DOWN), group)

    def received(server: EnsembleServer, group: int, context: Context) -> Params:
        return down.decode(server.sent[group], shapes[group], down_key(group, context))

    def client_init(params: Params) -> ClientState:
        starts = [params, *(m.init(jax.random.key(0)) for m in models[1:])]
        return (
            tuple(local.init(start) for start in starts),
            tuple(up.init(start) for start in starts),
        )

    def broadcast(
        server: EnsembleServer, context: Context
    ) -> tuple[Payload, EnsembleServer]:
        sent, states = encode(server.groups, server.downlinks, context.keys)
        return (), server._replace(sent=sent, downlinks=states)

    def tier(group: int) -> Tier:
        model = models[group]

        def unicast(
            server: EnsembleServer, record: Record, context: Context
        ) -> Payload:
            return server.sent[group]

        def client(
            view: Any, alone: Payload, state: ClientState, shard: Shard,
            context: Context,
        ) -> Report:  # fmt: skip
            memories, residuals = state
            params = down.decode(alone, shapes[group], down_key(group, context))
            problem = Problem(params, model=lambda t: model, memory=memories[group])

            def send(trained: Trained) -> tuple[Payload, Any]:
                payload, residual = exchange.encode(
                    up, trained.update, residuals[group], context
                )
                return payload, _put(residuals, group, residual)

            made = exchange.report(local, problem, shard, context, send)
            memory, kept = made.state
            return made._replace(state=(_put(memories, group, memory), kept))

        def reduce(
            server: EnsembleServer, payload: Payload, weight: Array, record: Record,
            context: Context,
        ) -> tuple[Handed, Record]:  # fmt: skip
            update = exchange.decode(up, payload, shapes[group], context)
            nothing = [
                tree.zeros_like(jax.eval_shape(aggregator.lift, s, weight))
                for s in shapes
            ]
            sums = _put(tuple(nothing), group, aggregator.lift(update, weight))
            weights = jnp.zeros(count, jnp.float32).at[group].set(weight)
            theirs = tree.add(received(server, group, context), update)
            some = public_rows(context.public, taken, _row_key(context))
            return Handed(sums, weights, logits_of(model, theirs, some)), record

        return Tier(unicast, client, reduce)

    def step(
        server: EnsembleServer, given: Stacked, context: Context
    ) -> EnsembleServer:
        handed, ok = given.each, given.ok
        sums, weights = tree.sum_first((handed.sums, handed.weight))
        moved = [
            tree.where(
                weights[i] > 0,
                optimizer.apply(
                    aggregator.finish(sums[i]), server.optimizers[i], params, context
                ),
                (params, server.optimizers[i]),
            )
            for i, params in enumerate(server.groups)
        ]
        server = server._replace(
            groups=tuple(p for p, _ in moved), optimizers=tuple(s for _, s in moved)
        )
        some = public_rows(context.public, taken, _row_key(context))
        lesson = Lesson(some, handed.logits, ok, weights, context.fold(_LEARN))
        return learner.learn(server, lesson)

    def network(server: EnsembleServer) -> tuple[Model, Params]:
        if learner.model is not None:
            return learner.model, server.own
        return models[0], server.groups[0]

    def others(server: EnsembleServer) -> dict[str, Any]:
        return groups.others(server.groups, 0 if learner.model is not None else 1)

    each = tuple(tier(group) for group in range(count))
    return Algorithm(
        init, client_init, broadcast, lambda payload, context: (),
        each[0].client, each[0].reduce, step, network,
        unicast=each[0].unicast,
        reduction="stack",
        observe=lambda server: server.told,
        tiers=groups.tiers(each),
        trains=models,
        public=setup.public,
        others=others,
    )  # fmt: skip


def _fits(link: Compressor, params: Params, where: str) -> None:
    """Raises InputError, saying where, if a link does not take parameters."""
    try:
        jax.eval_shape(link.init, params)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _row_key(context: Context) -> Key:
    return jax.random.fold_in(context.common, _ROWS)


def _put(each: tuple, place: int, value: Any) -> tuple:
    return (*each[:place], value, *each[place + 1 :])
