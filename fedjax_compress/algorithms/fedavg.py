"""Federated averaging with compression in both directions."""

from __future__ import annotations

from typing import NamedTuple

import jax

from fedjax_compress import registry, tree
from fedjax_compress.typing import (
    Acc,
    Aggregator,
    Algorithm,
    ClientState,
    Coin,
    Compressor,
    Key,
    LocalUpdate,
    Params,
    Payload,
    Report,
    ServerOptimizer,
    Shard,
    State,
)

_LOCAL, _UPLINK = 0, 1


class FedAvgServer(NamedTuple):
    """What the server keeps: parameters, optimizer state, downlink residual."""

    params: Params
    optimizer: State
    downlink: State


@registry.register("algorithm", context=5)
def fedavg(
    local: LocalUpdate,
    aggregator: Aggregator,
    optimizer: ServerOptimizer,
    uplink: Compressor,
    downlink: Compressor,
) -> Algorithm:
    """FedAvg and its relatives: compressed model down, compressed update up.

    The server sends encode(w); each client trains from v = decode(encode(w)) and
    sends encode(v' - v); the server applies its optimizer to the mean of the decoded
    updates. Its own w stays in full precision.

    Travels: down, the downlink's fields for the parameters, once to each client of
    the cohort; up, the uplink's fields for the update. The number of examples used as
    weight is registered with the client, and not counted.

    Args:
      local: what a client computes.
      aggregator: how updates are averaged; weighted by each client's examples.
      optimizer: the server's step.
      uplink: compressor of the clients' updates.
      downlink: compressor of the parameters; its state is kept by the server.

    Reference: McMahan et al. 2017, algorithm 1; Reddi et al. 2021, algorithm 1;
    compressed download as in Caldas et al. 2018, section 2.
    """

    def init(key: Key, params: Params) -> FedAvgServer:
        return FedAvgServer(params, optimizer.init(params), downlink.init(params))

    def client_init(params: Params) -> ClientState:
        return local.init(params), uplink.init(params)

    def broadcast(
        server: FedAvgServer, coin: Coin
    ) -> tuple[Params, Payload, FedAvgServer]:
        payload, state = downlink.encode(server.params, server.downlink, coin)
        view = downlink.decode(payload, server.params, coin.shared)
        return view, payload, server._replace(downlink=state)

    def client(view: Params, state: ClientState, shard: Shard, coin: Coin) -> Report:
        memory, residual = state
        key = jax.random.fold_in(coin.private, _LOCAL)
        update, memory, metrics = local.run(view, memory, shard, key)
        ok = tree.all_finite(update)
        payload, residual = uplink.encode(update, residual, coin.fold(_UPLINK))
        weight = metrics["examples"]
        return Report(payload, weight, (memory, residual), metrics, ok)

    def reduce(view: Params, report: Report, key: Key) -> Acc:
        shared = jax.random.fold_in(key, _UPLINK)
        update = uplink.decode(report.payload, view, shared)
        return aggregator.lift(update, report.weight)

    def server(server: FedAvgServer, acc: Acc) -> FedAvgServer:
        mean = aggregator.finish(acc)
        params, state = optimizer.apply(mean, server.optimizer, server.params)
        return server._replace(params=params, optimizer=state)

    return Algorithm(
        init, client_init, broadcast, client, reduce, server, lambda s: s.params,
        trains=() if local.model is None else (local.model,),
    )  # fmt: skip
