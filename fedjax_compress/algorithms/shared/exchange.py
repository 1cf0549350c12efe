"""The client that trains, encodes and reports: what all systems here share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fedjax_compress import tree
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Compressor,
    Context,
    Key,
    Keys,
    LocalUpdate,
    Payload,
    Problem,
    Report,
    Shard,
    State,
    Trained,
    Tree,
)

_LOCAL, _UPLINK = 0, 1


def report(
    local: LocalUpdate,
    problem: Problem,
    shard: Shard,
    context: Context,
    send: Callable[[Trained], tuple[Payload, Any]],
) -> Report:
    """Trains, and reports what ``send`` makes of it, weighted by the examples.

    Args:
      local: what the client computes.
      problem: what it minimises.
      shard, context: of the client.
      send: what was trained -> (payload, what the client keeps of it). The client's
        state is the local update's memory and that.
    """
    trained = local.run(problem, shard, context.fold(_LOCAL))
    payload, kept = send(trained)
    return Report(
        payload,
        trained.metrics["examples"],
        (trained.memory, kept),
        trained.metrics,
        tree.all_finite(trained.update),
    )


def encode(
    link: Compressor, values: Tree, state: State, context: Context
) -> tuple[Payload, State]:
    """What the uplink makes of values."""
    return link.encode(values, state, uplink_keys(context))


def decode(link: Compressor, payload: Payload, like: Tree, context: Context) -> Tree:
    """What ``encode`` was given, at the server."""
    return link.decode(payload, like, uplink_key(context))


def uplink_keys(context: Context) -> Keys:
    """The randomness of the uplink."""
    return context.keys.fold(_UPLINK)


def uplink_key(context: Context) -> Key:
    """The key of the uplink that client and server share."""
    return jax.random.fold_in(context.keys.shared, _UPLINK)


def refuse_state(state: State, reason: str) -> None:
    """Raises InputError, with the reason, where a link keeps a state between rounds."""
    if jax.tree.leaves(state):
        raise InputError(f"{reason}; leave error_feedback out")
