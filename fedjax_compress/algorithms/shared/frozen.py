"""Parameters that are never trained, sent to each client before its first round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress import tree, wire
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    ClientState,
    Context,
    Params,
    Payload,
    Record,
    Report,
    Server,
    Shard,
    Tier,
    View,
)


def sent_once(algorithm: Algorithm, frozen: Callable[[], dict[str, Any]]) -> Algorithm:
    """The algorithm, whose clients get the frozen parameters with their first round.

    Travels besides: down, to a client that has not taken part yet, the frozen
    parameters as they are; to any other one a bit for each array. A client whose first
    report was not usable gets them again.

    Args:
      algorithm: whose model has frozen parameters.
      frozen: makes them, by path.
    """

    def record_init(params: Params) -> Record:
        return algorithm.record_init(params), jnp.zeros((), bool)

    def tier(inner: Tier) -> Tier:
        def unicast(server: Server, record: Record, context: Context) -> Payload:
            own, has = record
            values = jax.tree.map(jnp.asarray, frozen())
            news = tree.where(has, tree.zeros_like(values), values)
            sent = {name: _field(x) for name, x in news.items()}
            return {"own": inner.unicast(server, own, context), "frozen": sent}

        def client(
            view: View,
            alone: Payload,
            state: ClientState,
            shard: Shard,
            context: Context,
        ) -> Report:
            return inner.client(view, alone["own"], state, shard, context)

        def reduce(
            server: Server,
            payload: Payload,
            weight: Array,
            record: Record,
            context: Context,
        ) -> tuple[Acc, Record]:
            own, has = record
            acc, own = inner.reduce(server, payload, weight, own, context)
            return acc, (own, jnp.ones_like(has))

        return Tier(unicast, client, reduce)

    tiers, first = algorithm.tiers, tier(algorithm.tier)
    if tiers is not None:
        tiers = tiers._replace(each=tuple(tier(each) for each in tiers.each))
    return algorithm._replace(
        record_init=record_init,
        unicast=first.unicast,
        client=first.client,
        reduce=first.reduce,
        tiers=tiers,
    )


def _field(values: Array) -> wire.Field:
    alphabet = 2 ** (8 * values.dtype.itemsize)
    return wire.Field(values, alphabet, "present")
