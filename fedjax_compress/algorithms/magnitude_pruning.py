"""Magnitude pruning of what travels: small weights are zeros in both directions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress import prune, registry, tree
from fedjax_compress.algorithms.fedavg import FedAvgServer, fedavg
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Acc,
    Aggregator,
    Algorithm,
    Array,
    ClientState,
    Coin,
    Compressor,
    Key,
    LocalUpdate,
    Metrics,
    Params,
    Payload,
    Report,
    ServerOptimizer,
    Shard,
)

_LOCAL, _UPLINK = 0, 1


@registry.register("algorithm", context=5)
def magnitude_pruning(
    local: LocalUpdate,
    aggregator: Aggregator,
    optimizer: ServerOptimizer,
    uplink: Compressor,
    downlink: Compressor,
    rate: float = 0.5,
    server_prunes: bool = True,
) -> Algorithm:
    """FedAvg of weights of which the smallest are set to zero before they travel.

    With P(w) = w where |w| >= the floor(rate n)-th smallest of all |w|, counted from 0,
    else 0, over all n parameters as one vector:

      a client gets P(w), trains all parameters from there, and sends P(w_k);
      w <- w + optimizer(sum_k n_k P(w_k) / sum_k n_k - w).

    Zeros take part in the mean like any other number, so w is denser than 1 - rate, and
    what was zero may grow again. The model that is evaluated is w, which nobody pruned.

    Travels: both ways the link's fields for the pruned parameters; a link as
    ``nonzero`` sends values and positions of the others only, and ``identity`` saves
    nothing.

    Args:
      local: what a client computes.
      aggregator: how the clients' weights are averaged.
      optimizer: the server's step; ``fedavg`` makes w the mean.
      uplink: compressor of the clients' pruned weights.
      downlink: compressor of the server's pruned weights.
      rate: share of the parameters that are set to zero, from 0 to below 1.
      server_prunes: whether the model that clients get is pruned, too.

    Raises:
      InputError: a rate outside [0, 1).

    Reference: Grativol et al. 2023, section on pruning, and its code.
    """
    if not 0 <= rate < 1:
        raise InputError(f"rate must be from 0 to below 1, not {rate}")
    whole = fedavg(local, aggregator, optimizer, uplink, downlink)

    def pruned(params: Params) -> Params:
        mask = prune.make_global_mask(params, rate)
        return jax.tree.map(lambda m, w: jnp.where(m, w, 0), mask, params)

    def broadcast(
        server: FedAvgServer, coin: Coin
    ) -> tuple[Params, Payload, FedAvgServer]:
        params = pruned(server.params) if server_prunes else server.params
        view, payload, sent = whole.broadcast(server._replace(params=params), coin)
        return view, payload, sent._replace(params=server.params)

    def client(view: Params, state: ClientState, shard: Shard, coin: Coin) -> Report:
        memory, residual = state
        key = jax.random.fold_in(coin.private, _LOCAL)
        update, memory, metrics = local.run(view, memory, shard, key)
        weights = pruned(tree.add(view, update))
        payload, residual = uplink.encode(weights, residual, coin.fold(_UPLINK))
        ok = tree.all_finite(update)
        return Report(payload, metrics["examples"], (memory, residual), metrics, ok)

    def reduce(view: Params, report: Report, key: Key) -> tuple[Acc, Array]:
        shared = jax.random.fold_in(key, _UPLINK)
        weights = uplink.decode(report.payload, view, shared)
        return aggregator.lift(weights, report.weight), report.weight

    def server(server: FedAvgServer, sums: tuple[Acc, Array]) -> FedAvgServer:
        acc, weight = sums
        change = tree.subtract(aggregator.finish(acc), server.params)
        change = tree.where(weight > 0, change, tree.zeros_like(change))
        params, state = optimizer.apply(change, server.optimizer, server.params)
        return server._replace(params=params, optimizer=state)

    def observe(server: FedAvgServer) -> Metrics:
        kept = [jnp.sum(w != 0) for w in jax.tree.leaves(server.params)]
        density = sum(k.astype(jnp.float32) for k in kept) / tree.count(server.params)
        return {"density": jnp.asarray(density)}

    return whole._replace(
        broadcast=broadcast, client=client, reduce=reduce, server=server,
        observe=observe,
    )  # fmt: skip
