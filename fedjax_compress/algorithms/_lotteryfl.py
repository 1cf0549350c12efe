"""LotteryFL: each client finds a lottery ticket of its own."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import compress, prune, registry, tree
from fedjax_compress.algorithms.shared import exchange
from fedjax_compress.algorithms.shared.needs import check_zeros, model_of
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.errors import InputError
from fedjax_compress.models import metrics
from fedjax_compress.numerics import ranking
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    ClientState,
    Context,
    Key,
    Model,
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

_DOWNLINK = 2


class LotteryServer(NamedTuple):
    """Parameters and optimizer state."""

    params: Params
    optimizer: State


class LotterySums(NamedTuple):
    """Accumulator: of the aggregator, and how many clients held each parameter."""

    weights: Acc
    held: Tree


@registry.register("algorithm", context=1)
@of_checked_parts
def lotteryfl(
    setup: Setup,
    prune_rate: float = 0.2,
    threshold: float = 0.5,
    target: float = 0.1,
) -> Algorithm:
    """LotteryFL: clients train, and share, the parameters of their own masks.

    A client gets w m_k, with m_k its mask so far, and scores it on its own rows. If the
    accuracy exceeds ``threshold`` and more than ``target`` of the weights are left, of
    every weight tensor those left are pruned whose |w| is below their ``prune_rate``
    quantile (of n different ones the ceil(prune_rate (n - 1)) smallest), and the others
    start from what they were before the first round. It trains w m_k and sends
    its weights. Each parameter becomes the mean over the clients that hold it; one that
    nobody holds stays.

    Travels: down, the downlink's fields for the parameters under the client's mask; up,
    the uplink's fields for those left, and the mask if it has changed (else a few bits
    that say so). The server keeps a record of all masks; what the parameters were
    before the first round both ends know from the seed.

    Args:
      setup: what is joined. ``local`` names its model; ``mean(weight=uniform)`` as
        aggregator and ``fedavg`` as the server's step, with mean - w, are the paper's;
        both links stateless and elementwise.
      prune_rate: share of the weights left that are pruned at once, above 0, below 1.
      threshold: accuracy that a client must exceed to prune, 0 to 1.
      target: share of weights at which it stops, from 0 to below 1.

    Raises:
      InputError: an option out of its range, a link that keeps a state or mixes
        elements, a local update without model.

    Reference: Li et al. 2020, algorithm 1, and its code.
    Evaluated: the mean; and with test rows by client, as the paper does, each client's
    own ticket, w m_k (``personal_...``).

    Deviations: the accuracy is that on the client's training rows, the paper's on rows
      held out; a weight that is left and happens to be zero still counts.
    """
    if not 0 < prune_rate < 1:
        raise InputError(f"prune_rate must be above 0 and below 1, not {prune_rate}")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold must be from 0 to 1, not {threshold}")
    if not 0 <= target < 1:
        raise InputError(f"target must be from 0 to below 1, not {target}")
    local, aggregator, optimizer = setup.local, setup.aggregator, setup.optimizer
    model = model_of(local, "lotteryfl")
    check_zeros(local, "lotteryfl")
    up, down = compress.masked(setup.uplink), compress.masked(setup.downlink)

    def init(key: Key, params: Params) -> LotteryServer:
        down.init_check(params)
        return LotteryServer(params, optimizer.init(params))

    def record_init(params: Params) -> Tree:
        return prune.all_kept(_weights(params))

    def client_init(params: Params) -> ClientState:
        up.init_check(params)
        return local.init(params), record_init(params)

    def broadcast(
        server: LotteryServer, context: Context
    ) -> tuple[Payload, LotteryServer]:
        return (), server

    def unicast(server: LotteryServer, mask: Tree, context: Context) -> Payload:
        hop = context.keys.fold(_DOWNLINK)
        return down.encode(prune.apply(mask, server.params), mask, hop)

    def client(
        view: Payload,
        alone: Payload,
        state: ClientState,
        shard: Shard,
        context: Context,
    ) -> Report:
        memory, mask = state
        initial, shared = context.params, context.keys.fold(_DOWNLINK).shared
        received = down.decode(alone, initial, mask, shared)
        left = prune.density(mask, initial).overall
        prunes = (accuracy(model, received, shard) > threshold) & (left > target)
        fewer = _smaller(received, mask, prune_rate)
        mask = tree.where(prunes, fewer, mask)
        start = prune.apply(mask, tree.where(prunes, initial, received))

        def send(trained: Trained) -> tuple[Payload, Tree]:
            weights = prune.apply(mask, tree.add(start, trained.update))
            news = jax.tree.map(lambda m: m & prunes, mask)
            payload = {
                "weights": up.encode(weights, mask, exchange.uplink_keys(context)),
                "mask": compress.mask_fields(news),
            }
            return payload, mask

        problem = Problem(start, lambda w: prune.apply(mask, w), memory=memory)
        return exchange.report(local, problem, shard, context, send)

    def reduce(
        server: LotteryServer,
        payload: Payload,
        weight: Array,
        record: Record,
        context: Context,
    ) -> tuple[LotterySums, Record]:
        news = compress.masks_from(payload["mask"])
        mask = tree.where(prune.any_kept(news), news, record)
        shared = exchange.uplink_key(context)
        weights = up.decode(payload["weights"], context.params, mask, shared)
        held = prune.apply(
            mask, jax.tree.map(lambda w: jnp.full(w.shape, weight), weights)
        )
        return LotterySums(aggregator.lift(weights, held), held), mask

    def step(
        server: LotteryServer, sums: LotterySums, context: Context
    ) -> LotteryServer:
        mean = aggregator.finish(sums.weights)
        held = jax.tree.map(lambda h: h > 0, sums.held)
        change = prune.apply(held, tree.subtract(mean, server.params))
        params, state = optimizer.apply(
            change, server.optimizer, server.params, context
        )
        params = jax.tree.map(jnp.where, held, params, server.params)
        return LotteryServer(params, state)

    return Algorithm(
        init, client_init, broadcast, lambda payload, context: (), client, reduce, step,
        lambda server: (model, server.params),
        unicast=unicast,
        record_init=record_init,
        personal=lambda params, state: prune.apply(state[1], params),
        trains=(model,),
    )  # fmt: skip


def accuracy(model: Model, params: Params, shard: Shard) -> Array:
    """The model's first figure on a client's own rows, such as the share of right
    answers; higher is better.

    Raises:
      InputError: lower is.
    """
    name, metric = next(iter(model.metrics.items()))
    if metric.better != "higher":
        raise InputError(
            f"clients score the model by its first metric, of which higher must be "
            f"better; of {name} lower is"
        )
    return metrics.on_shard(model, params, shard)[0]


def _weights(params: Params) -> Tree:
    """The part of the parameters that may be pruned."""
    return prune.part(params, prune.prunable(params))


def _smaller(params: Params, mask: Tree, rate: float) -> Tree:
    """The mask without what lies below the ``rate`` quantile of |w| of what is left.

    Between the two places of a sorted array that it falls between, a quantile is above
    the former: so what stays is at least the ceil(rate (n - 1))-th smallest, from 0.
    """

    def fewer(weights: Array, mask: Array) -> Array:
        left = jnp.sum(mask, dtype=jnp.int32)
        cut = prune.ceiled(rate, jnp.maximum(left - 1, 0))
        # Of what is left even a zero comes before what is pruned.
        ranks = jnp.minimum(ranking.magnitudes(weights) + 1, ranking.INFINITE)
        ranks = jnp.where(mask, ranks, 0)
        least = ranking.kth_largest(ranks.reshape(-1), jnp.maximum(left - cut, 1))
        return mask & (ranks >= least)

    return jax.tree.map(fewer, _weights(params), mask)
