"""A network in halves: a client has both, the server a larger second one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.models.distilling import distillation
from fedjax_compress.typing import (
    Array,
    Columns,
    Context,
    Halves,
    Key,
    Metric,
    Model,
    Outputs,
    Params,
    Shard,
)

TEACHER, TAUGHT = "teacher", "taught"
"""Columns: the logits that teach a row, and whether there are any."""
_BLOCK = 64
"""Rows whose features are made at once."""


def halves_of(model: Model) -> Halves:
    """The halves of a client's network.

    Raises:
      InputError: it has none.
    """
    if model.halves is None:
        raise InputError(
            "fedgkt needs a model in halves, such as resnet8 or mlp, as it is: without "
            "qat, partial or lora"
        )
    return model.halves


def taught_by_columns(edge: Model, temperature: float, alpha: float) -> Model:
    """The client's network with the loss of rows that may have a teacher."""

    def losses(outputs: Outputs, columns: Columns) -> tuple[Array, Array]:
        values, weights = edge.losses(outputs, columns)
        extra = distillation(columns[TEACHER], outputs, temperature)
        return values + alpha * jnp.where(columns[TAUGHT], extra, 0.0), weights

    return edge._replace(losses=losses)


def own_rows(shard: Shard, largest: int) -> Any:
    """The client's rows by themselves, [largest, ...]."""
    index = jnp.arange(largest)
    return shard.take(index, index < shard.size)


def of_other_rows(teacher: Array, size: Array, context: Context) -> Array:
    """The logits of each row given to another row of the client, drawn anew."""
    draws = jax.random.uniform(context.keys.private, (len(teacher),))
    order = jnp.argsort(jnp.where(jnp.arange(len(teacher)) < size, draws, 2.0))
    return teacher[order]


def outputs_of(
    halves: Halves, params: Params, columns: Columns, largest: int
) -> tuple[Array, Array]:
    """Features and logits of all rows as they are evaluated, a block at a time."""
    size = min(_BLOCK, largest)
    blocks = -(-largest // size)
    fill = jnp.minimum(jnp.arange(blocks * size), largest - 1).reshape(blocks, size)

    def one(places: Array) -> tuple[Array, Array]:
        some = {name: x[places] for name, x in columns.items()}
        features = halves.first(params, some, None)
        return features, halves.second(params, features, None)

    made = jax.lax.map(one, fill)
    features, logits = (x.reshape(blocks * size, *x.shape[2:])[:largest] for x in made)
    return features, logits


def followed_by(edge: Model, halves: Halves, net: Model) -> Model:
    """A client's features followed by the server's network."""

    def init(key: Key) -> Params:
        first, second = jax.random.split(key)
        return {"edge": edge.init(first), "server": net.init(second)}

    def apply(params: Params, columns: Columns, key: Key | None) -> Outputs:
        features = halves.first(params["edge"], columns, None)
        return net.apply(params["server"], {**columns, "features": features}, key)

    metrics = dict(net.metrics)
    for name, metric in edge.metrics.items():
        metrics[f"edge_{name}"] = metric._replace(count=_of_edge(edge, metric))
    return Model(init, apply, net.losses, metrics)


def _of_edge(edge: Model, metric: Metric) -> Callable[..., Any]:
    """What a metric counts of the client's whole network, alone."""

    def count(params: Params, columns: Columns, outputs: Outputs) -> Any:
        alone = edge.apply(params["edge"], columns, None)
        return metric.count(params["edge"], columns, alone)

    return count
