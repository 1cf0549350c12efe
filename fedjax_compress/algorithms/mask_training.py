"""What all algorithms share whose server keeps a mask of the parameters in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import compress, prune, tree
from fedjax_compress.algorithms.frames import check_frames, check_zeros
from fedjax_compress.typing import (
    Acc,
    Aggregator,
    Algorithm,
    Array,
    ClientState,
    Coin,
    Compressor,
    Frame,
    Key,
    LocalUpdate,
    Metrics,
    Params,
    Payload,
    Report,
    ServerOptimizer,
    Shard,
    State,
    Tree,
)

_LOCAL, _UPLINK, _IMPORTANCE, _MASK = range(4)


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


class MaskView(NamedTuple):
    """What a round begins with.

    Attributes:
      params: as decoded, 0 where they are not in use.
      mask: of the units, as the server has it.
      used: of the parameters themselves, bool; None for leaves never pruned.
      version, number: as the server has them.
    """

    params: Params
    mask: Tree
    used: Tree
    version: Array
    number: Array


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
    local: LocalUpdate,
    aggregator: Aggregator,
    optimizer: ServerOptimizer,
    uplink: Compressor,
    downlink: Compressor,
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

    Args:
      local, aggregator, optimizer, uplink, downlink: as in ``fedavg``; both links
        stateless and elementwise, see ``compress.masked``.
      name: of the algorithm, for messages.
      start: params -> (mask, memory) before the first round.
      refresh: decides after each round about the mask.
      pattern: of the units; None where each parameter is one.
      squares: when squared gradients are sent; None for never.

    Raises:
      InputError: a link that keeps a state or mixes elements, a local update without
        frames.
    """
    check_frames(local, name)
    check_zeros(local, name)
    up, down = compress.masked(uplink), compress.masked(downlink)
    plain = compress.masked(compress.parse("identity"))

    def init(key: Key, params: Params) -> MaskServer:
        down.init_check(params)
        mask, memory = start(params)
        zero = jnp.zeros((), jnp.int32)
        state = optimizer.init(params)
        return MaskServer(params, state, mask, zero + 1, zero, memory)

    def client_init(params: Params) -> ClientState:
        up.init_check(params)
        gathered = tree.zeros_like(params) if squares else ()
        return local.init(params), jnp.zeros((), jnp.int32), gathered

    def broadcast(
        server: MaskServer, coin: Coin
    ) -> tuple[MaskView, Payload, MaskServer]:
        used = prune.spread(server.mask, server.params, pattern)
        params = prune.apply(used, server.params)
        payload = down.encode(params, used, coin)
        params = down.decode(payload, params, used, coin.shared)
        view = MaskView(params, server.mask, used, server.version, server.number)
        return view, payload, server

    def client(view: MaskView, state: ClientState, shard: Shard, coin: Coin) -> Report:
        memory, version, gathered = state
        stale = version != view.version
        lift = _open(view.used) if squares else (lambda w: prune.apply(view.used, w))
        key = jax.random.fold_in(coin.private, _LOCAL)
        update, memory, metrics = local.run(
            view.params, memory, shard, key, frame=Frame(view.params, lift)
        )
        moved = prune.apply(view.used, update)
        payload = {"update": up.encode(moved, view.used, coin.fold(_UPLINK))}
        if squares:
            rest, n = tree.subtract(update, moved), processed(metrics)
            gathered = tree.where(stale, tree.zeros_like(gathered), gathered)
            gathered = jax.tree.map(lambda g, u: g + n * u * u, gathered, rest)
            due = squares.due(view.number)
            payload["squares"] = _only_if(
                due,
                lambda sent: plain.encode(
                    sent, _others(view.used, sent), coin.fold(_IMPORTANCE)
                ),
                gathered,
            )
            gathered = tree.where(due, tree.zeros_like(gathered), gathered)
        # A client that has the present mask is sent an empty one in its place.
        news = jax.tree.map(lambda m: m & stale, view.mask)
        return Report(
            payload,
            metrics["examples"],
            (memory, view.version, gathered),
            metrics,
            tree.all_finite(update),
            {"mask": compress.mask_fields(news)},
        )

    def reduce(view: MaskView, report: Report, key: Key) -> MaskSums:
        shared = jax.random.fold_in(key, _UPLINK)
        update = up.decode(report.payload["update"], view.params, view.used, shared)
        found: Any = ()
        if squares:
            n, others = processed(report.metrics), _others(view.used, view.params)
            shared = jax.random.fold_in(key, _IMPORTANCE)
            sent = _only_if(
                squares.due(view.number),
                lambda squares: plain.decode(squares, view.params, others, shared),
                report.payload["squares"],
            )
            found = jax.tree.map(lambda u, s: n * u * u + s, update, sent)
        return MaskSums(aggregator.lift(update, report.weight), found)

    def server(server: MaskServer, sums: MaskSums) -> MaskServer:
        mean = aggregator.finish(sums.updates)
        params, state = optimizer.apply(mean, server.optimizer, server.params)
        used = prune.spread(server.mask, server.params, pattern)
        params = chosen(used, params, server.params)
        server = server._replace(
            params=params, optimizer=state, number=server.number + 1
        )
        mask, anew, memory = refresh(server, mean, sums.squares)
        return server._replace(
            mask=mask, version=server.version + anew.astype(jnp.int32), memory=memory
        )

    return Algorithm(
        init, client_init, broadcast, client, reduce, server,
        lambda s: prune.apply(s.mask, s.params, pattern),
        observe=lambda s: densities(s.mask, s.params, pattern),
        trains=() if local.model is None else (local.model,),
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


def processed(metrics: Metrics) -> Array:
    """Rows that a client has learned from, each as often as it was seen."""
    return metrics.get("processed", metrics["examples"])


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
