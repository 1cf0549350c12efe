"""What all algorithms share whose server keeps a mask of the parameters in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import compress, prune, tree, wire
from fedjax_compress.algorithms.shared import exchange
from fedjax_compress.algorithms.shared.needs import check_zeros, trained
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    ClientState,
    Context,
    Key,
    Metrics,
    Params,
    Payload,
    Problem,
    Record,
    Report,
    Setup,
    Shard,
    State,
    Trained,
    Tree,
)

_IMPORTANCE = 2


class MaskServer(NamedTuple):
    """What the server keeps.

    Invariant: no round moves a parameter whose mask is False; what it was when it went
    out of use is kept.

    Attributes:
      params: of the whole model.
      optimizer: state of its optimizer.
      mask: which units are in use, bool [units]; None for leaves never pruned.
      version: int32, how often the mask has changed.
      number: int32, rounds finished with at least one usable report.
      memory: what decides about the next mask.
    """

    params: Params
    optimizer: State
    mask: Tree
    version: Array
    number: Array
    memory: Tree


class MaskClient(NamedTuple):
    """What a client keeps.

    Attributes:
      mask: of the units, as it was last sent; all False before.
      gathered: squared gradients of what is not in use, since then; () if nobody asks.
    """

    mask: Tree
    gathered: Tree


class MaskSums(NamedTuple):
    """Accumulator: of the aggregator, and of the squared gradients, if asked for."""

    updates: Acc
    squares: Tree


class Squares(NamedTuple):
    """Squared gradients that the server asks for.

    Attributes:
      due: number of a round (0-based) -> whether clients send those of parameters that
        are not in use, which they have gathered since the mask was set.
    """

    due: Callable[[Array], Array]


Refresh = Callable[[MaskServer, Tree, Tree], tuple[Tree, Array, Tree]]
"""(server after the round, mean update, squares) -> (mask, whether it is a new one,
memory)."""


def mask_training(
    setup: Setup,
    *,
    name: str,
    start: Callable[[Params], tuple[Tree, Tree]],
    refresh: Refresh,
    pattern: prune.Pattern | None = None,
    squares: Squares | None = None,
) -> Algorithm:
    """FedAvg on the parameters in use, which the server may change after each round.

    Clients train w m with the mask m. Without ``squares`` the gradient is that of
    w -> loss(w m), zero where m is. With them it is the gradient at w m of all
    parameters: those in use move, and what the others would have moved, u_j, is
    gathered as n u_j^2 with n the rows processed.

    The server's record of a client is the version of the mask that it has. One that
    has not the present one is sent it, and any other an empty one: masks that keep
    nothing at all cannot be sent.

    Args:
      setup: what is joined; both links stateless and elementwise, see
        ``compress.masked``.
      name: of the algorithm, for messages.
      start: params -> (mask, memory) before the first round.
      refresh: decides after each round about the mask.
      pattern: of the units; None where each parameter is one.
      squares: when squared gradients are sent; None for never. The broadcast says so.

    Raises:
      InputError: a link that keeps a state or mixes elements.
    """
    local, aggregator, optimizer = setup.local, setup.aggregator, setup.optimizer
    check_zeros(local, name)
    up, down = compress.masked(setup.uplink), compress.masked(setup.downlink)
    plain = compress.masked(compress.parse("identity"))

    def used_of(mask: Tree, params: Params) -> Tree:
        return prune.spread(mask, params, pattern)

    def init(key: Key, params: Params) -> MaskServer:
        down.init_check(params)
        mask, memory = start(params)
        zero = jnp.zeros((), jnp.int32)
        state = optimizer.init(params)
        return MaskServer(params, state, mask, zero + 1, zero, memory)

    def client_init(params: Params) -> ClientState:
        up.init_check(params)
        mask = jax.tree.map(jnp.zeros_like, start(params)[0])
        gathered = tree.zeros_like(params) if squares else ()
        return local.init(params), MaskClient(mask, gathered)

    def record_init(params: Params) -> Array:
        return jnp.zeros((), jnp.int32)

    def broadcast(server: MaskServer, context: Context) -> tuple[Payload, MaskServer]:
        used = used_of(server.mask, server.params)
        params = prune.apply(used, server.params)
        payload = {"parameters": down.encode(params, used, context.keys)}
        if squares:
            payload["due"] = wire.Field(squares.due(server.number), 2)
        return payload, server

    def unicast(server: MaskServer, record: Array, context: Context) -> Payload:
        stale = record != server.version
        news = jax.tree.map(lambda m: m & stale, server.mask)
        return compress.mask_fields(news)

    def client(
        view: Payload,
        alone: Payload,
        state: ClientState,
        shard: Shard,
        context: Context,
    ) -> Report:
        memory, (mask, gathered) = state
        news = compress.masks_from(alone)
        stale = prune.any_kept(news)
        mask = tree.where(stale, news, mask)
        used = used_of(mask, context.params)
        received = down.decode(view["parameters"], context.params, used, context.common)
        lift = _open(used) if squares else (lambda w: prune.apply(used, w))

        def send(trained: Trained) -> tuple[Payload, MaskClient]:
            moved = prune.apply(used, trained.update)
            hop = context.keys
            payload = {"update": up.encode(moved, used, exchange.uplink_keys(context))}
            if not squares:
                return payload, MaskClient(mask, ())
            rest = tree.subtract(trained.update, moved)
            n = local.seen(context.inputs["examples"])
            kept = tree.where(stale, tree.zeros_like(gathered), gathered)
            kept = jax.tree.map(lambda g, u: g + n * u * u, kept, rest)
            due = view["due"].symbols
            payload["squares"] = _only_if(
                due,
                lambda sent: plain.encode(
                    sent, _others(used, sent), hop.fold(_IMPORTANCE)
                ),
                kept,
            )
            return payload, MaskClient(
                mask, tree.where(due, tree.zeros_like(kept), kept)
            )

        problem = Problem(received, lift, memory=memory)
        return exchange.report(local, problem, shard, context, send)

    def reduce(
        server: MaskServer,
        payload: Payload,
        weight: Array,
        record: Record,
        context: Context,
    ) -> tuple[MaskSums, Record]:
        used = used_of(server.mask, server.params)
        shared = exchange.uplink_key(context)
        update = up.decode(payload["update"], context.params, used, shared)
        found: Tree = ()
        if squares:
            n = local.seen(context.inputs["examples"])
            others = _others(used, context.params)
            shared = jax.random.fold_in(context.keys.shared, _IMPORTANCE)
            sent = _only_if(
                squares.due(server.number),
                lambda squares: plain.decode(squares, context.params, others, shared),
                payload["squares"],
            )
            found = jax.tree.map(lambda u, s: n * u * u + s, update, sent)
        return MaskSums(aggregator.lift(update, weight), found), server.version

    def step(server: MaskServer, sums: MaskSums, context: Context) -> MaskServer:
        mean = aggregator.finish(sums.updates)
        params, state = optimizer.apply(mean, server.optimizer, server.params, context)
        params = chosen(used_of(server.mask, server.params), params, server.params)
        server = server._replace(
            params=params, optimizer=state, number=server.number + 1
        )
        mask, anew, memory = refresh(server, mean, sums.squares)
        return server._replace(
            mask=mask, version=server.version + anew.astype(jnp.int32), memory=memory
        )

    return Algorithm(
        init, client_init, broadcast, lambda payload, context: payload, client, reduce,
        step, lambda s: (local.model, prune.apply(s.mask, s.params, pattern)),
        unicast=unicast,
        record_init=record_init,
        observe=lambda s: densities(s.mask, s.params, pattern),
        trains=trained(local),
    )  # fmt: skip


def chosen(used: Tree, one: Tree, other: Tree) -> Tree:
    """``one`` where parameters are in use, or never pruned, else ``other``."""
    return jax.tree.map(
        lambda m, x, y: x if m is None else jnp.where(m, x, y),
        used, one, other, is_leaf=lambda m: m is None,
    )  # fmt: skip


def densities(mask: Tree, params: Params, pattern: prune.Pattern | None) -> Metrics:
    """Shares of the parameters in use: ``density`` of all that may be pruned, and
    ``density/PATH`` of each leaf of those."""
    found = prune.density(mask, params, pattern)
    paths = tree.paths(found.leaves)
    each = zip(paths, jax.tree.leaves(found.leaves), strict=True)
    return {"density": found.overall, **{f"density/{path}": d for path, d in each}}


def differ(one: Tree, other: Tree) -> Array:
    """Whether two masks differ, a bool scalar."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jnp.any(jnp.stack([jnp.any(a != b) for a, b in pairs]))


def _only_if(condition: Array, work: Callable[[Any], Any], given: Any) -> Any:
    """What the work makes, or zeros, without doing it, where the condition is False.

    The condition is that of a round, the same for all clients side by side.
    """
    nothing = tree.zeros_like(jax.eval_shape(work, given))
    return jax.lax.cond(condition, work, lambda _: nothing, given)


def _others(used: Tree, like: Tree) -> Tree:
    """The mask of what is not in use."""
    return jax.tree.map(
        lambda m, x: jnp.zeros(x.shape, bool) if m is None else ~m,
        used, like, is_leaf=lambda m: m is None,
    )  # fmt: skip


def _open(used: Tree) -> Callable[[Tree], Params]:
    """w -> w where it is in use, else 0; the gradient is passed on to all of w."""

    def lift(params: Tree) -> Params:
        hidden = chosen(used, tree.zeros_like(params), params)
        return tree.subtract(params, jax.lax.stop_gradient(hidden))

    return lift
