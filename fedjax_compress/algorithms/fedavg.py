"""Federated averaging with compression in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax

from fedjax_compress import registry, tree
from fedjax_compress.algorithms.parts import of_checked_parts
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
    Params,
    Payload,
    Report,
    ServerOptimizer,
    Shard,
    State,
)

_LOCAL, _UPLINK = 0, 1


Sent = Literal["update", "weights", "quantized"]
Weights = Literal["weights", "quantized"]


class Sums(NamedTuple):
    """Accumulator: of the aggregator, and where weights are averaged their weight."""

    sent: Acc
    weight: tuple[Array, ...]


class FedAvgServer(NamedTuple):
    """What the server keeps: parameters, optimizer state, downlink residual."""

    params: Params
    optimizer: State
    downlink: State


@registry.register("algorithm", context=5)
@of_checked_parts
def fedavg(
    local: LocalUpdate,
    aggregator: Aggregator,
    optimizer: ServerOptimizer,
    uplink: Compressor,
    downlink: Compressor,
    send: Sent = "update",
    receive: Weights = "weights",
) -> Algorithm:
    """FedAvg and its relatives: compressed model down, compressed update up.

    The server sends encode(w); each client trains from v = decode(encode(w)) and
    sends encode(v' - v); the server applies its optimizer to the mean of the decoded
    updates. Its own w stays in full precision.

    With ``send=weights`` clients send encode(v'), and the server applies its optimizer
    to mean(decode(encode(v'))) - w: ``fedavg(lr=1)`` makes w the mean of what arrives.
    With ``send=quantized`` what travels are the weights that the model computes with,
    where clients train quantized ones: codes and scales.

    Travels: down, the downlink's fields for the parameters, once to each client of
    the cohort; up, the uplink's fields for the update or the weights; where they are
    quantized, those of the model's quantizer. The number of examples used as weight is
    registered with the client, and not counted.

    Args:
      local: what a client computes.
      aggregator: how updates are averaged; weighted by each client's examples. A vote
        on signs is one of updates, and means nothing of weights.
      optimizer: the server's step.
      uplink: compressor of the clients' updates; of weights only one without state.
      downlink: compressor of the parameters; its state is kept by the server.
      send: update, weights (the latent ones where clients quantize), or quantized.
      receive: weights, or quantized.

    Raises:
      InputError: quantized without a model that quantizes, or besides a lossy link; and
        before the first round, weights sent through a link that keeps a state.

    Reference: McMahan et al. 2017, algorithm 1; Reddi et al. 2021, algorithm 1;
    compressed download as in Caldas et al. 2018, section 2.
    """
    return averaging(
        local, aggregator, optimizer,
        link_for(local, uplink, send, "send", "uplink"),
        link_for(local, downlink, receive, "receive", "downlink"),
        of_weights=send != "update",
    )  # fmt: skip


def averaging(
    local: LocalUpdate,
    aggregator: Aggregator,
    optimizer: ServerOptimizer,
    up: Compressor,
    down: Compressor,
    *,
    of_weights: bool = False,
    before_up: Callable[[Params], Params] = lambda params: params,
    before_down: Callable[[Params], Params] = lambda params: params,
) -> Algorithm:
    """What algorithms share in which the server averages updates or weights.

    Args:
      local, aggregator, optimizer: as in ``fedavg``.
      up: compressor of the updates or weights.
      down: compressor of the parameters.
      of_weights: whether weights are averaged.
      before_up: is done to the update or the weights before they are sent.
      before_down: likewise to the server's parameters.
    """

    def init(key: Key, params: Params) -> FedAvgServer:
        return FedAvgServer(params, optimizer.init(params), down.init(params))

    def client_init(params: Params) -> ClientState:
        state = up.init(params)
        if of_weights and jax.tree.leaves(state):
            raise InputError(
                "an uplink of weights cannot keep a state between rounds, in which "
                "whole weights would add up; leave error_feedback out, or send updates"
            )
        return local.init(params), state

    def broadcast(
        server: FedAvgServer, coin: Coin
    ) -> tuple[Params, Payload, FedAvgServer]:
        params = before_down(server.params)
        payload, state = down.encode(params, server.downlink, coin)
        view = down.decode(payload, params, coin.shared)
        return view, payload, server._replace(downlink=state)

    def client(view: Params, state: ClientState, shard: Shard, coin: Coin) -> Report:
        memory, residual = state
        key = jax.random.fold_in(coin.private, _LOCAL)
        update, memory, metrics = local.run(view, memory, shard, key)
        ok = tree.all_finite(update)
        sent = before_up(tree.add(view, update) if of_weights else update)
        payload, residual = up.encode(sent, residual, coin.fold(_UPLINK))
        weight = metrics["examples"]
        return Report(payload, weight, (memory, residual), metrics, ok)

    def reduce(view: Params, report: Report, key: Key) -> Sums:
        shared = jax.random.fold_in(key, _UPLINK)
        sent = up.decode(report.payload, view, shared)
        weight = (report.weight,) if of_weights else ()
        return Sums(aggregator.lift(sent, report.weight), weight)

    def server(server: FedAvgServer, sums: Sums) -> FedAvgServer:
        mean = aggregator.finish(sums.sent)
        if of_weights:
            change = tree.subtract(mean, server.params)
            mean = tree.where(sums.weight[0] > 0, change, tree.zeros_like(change))
        params, state = optimizer.apply(mean, server.optimizer, server.params)
        return server._replace(params=params, optimizer=state)

    return Algorithm(
        init, client_init, broadcast, client, reduce, server, lambda s: s.params,
        trains=() if local.model is None else (local.model,),
    )  # fmt: skip


def link_for(
    local: LocalUpdate, link: Compressor, what: str, option: str, name: str
) -> Compressor:
    """The compressor of what travels.

    Args:
      local: of the model whose quantizer may be asked for.
      link: the link that was given.
      what: update, weights or quantized.
      option: name of the option that says so, for messages.
      name: name of the link, for messages.

    Raises:
      InputError: quantized without a model that quantizes, or besides a lossy link.
    """
    if what != "quantized":
        return link
    if local.model is None or local.model.quantizer is None:
        raise InputError(
            f"{option}=quantized needs clients that train with quantized weights; give "
            "qat, as in integer(bits=4)"
        )
    if not link.claims.lossless:
        raise InputError(
            f"{option}=quantized makes the message itself; give {name}=identity"
        )
    return local.model.quantizer
