"""What algorithms join and are told, made of few words."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress import compress, registry
from fedjax_compress.clients import group
from fedjax_compress.simulate.chunk import client_context, server_context
from fedjax_compress.typing import (
    Keys,
    LocalUpdate,
    Problem,
    Setup,
    Shard,
    Trained,
    rows_of,
)


def setup(
    local,
    aggregate="mean",
    server="fedavg",
    uplink="identity",
    downlink="identity",
    population=None,
    public=None,
):
    """A Setup; each part but ``local`` may be a SPEC."""

    def made(kind, given):
        return registry.build(kind, given) if isinstance(given, str) else given

    def link(given):
        return compress.parse(given) if isinstance(given, str) else given

    return Setup(
        local,
        made("aggregate", aggregate),
        made("server", server),
        link(uplink),
        link(downlink),
        population,
        public or {},
    )


def local(text, model):
    """The local update of a SPEC."""
    return registry.build("local", text, model)


def labelled(features, labels, owner, clients=None):
    """Rows by client, of two columns."""
    return group({"features": features, "labels": labels}, owner, clients)


def server_told(params, root=None, number=0):
    """The context of the server in a round."""
    root = jax.random.key(0) if root is None else root
    return server_context(root, jnp.asarray(number, jnp.int32), params)


def client_told(params, client=0, root=None, number=0, examples=1, **inputs):
    """The context of a client in a round."""
    root = jax.random.key(0) if root is None else root
    told = {"client": client, "examples": examples}
    told = {name: jnp.asarray(x, jnp.int32) for name, x in told.items()} | inputs
    server = server_told(params, root, number)
    return client_context(server, root, jnp.asarray(client, jnp.int32), told)


def told_by(key, params=()):
    """A context whose private and shared keys are the same one."""
    zero = jnp.zeros((), jnp.int32)
    inputs = {"examples": jnp.ones((), jnp.int32)}
    return client_told(params)._replace(keys=Keys(key, key), common=key, round=zero,
                                        inputs=inputs)  # fmt: skip


def updating(function, model=None):
    """A local update whose update and metrics are (received, shard, key) -> those."""

    def run(problem, shard, context):
        update, metrics = function(problem.start, shard, context.keys.private)
        return Trained(update, problem.memory, metrics)

    return LocalUpdate(run, model=model)


def train(local, params, shard, key, **problem):
    """What a local update leaves, from ``params`` on, with a key as it was drawn."""
    return local.run(Problem(params, **problem), shard, told_by(key, params))


def rows(features, labels=None):
    """Columns of features, and labels if there are any."""
    return {"features": features} | ({} if labels is None else {"labels": labels})


def shard(columns, start=0, size=None, largest=None):
    """One client's rows of columns on the host; all of them if no size is said."""
    size = rows_of(columns) if size is None else size
    each = (start, size, size if largest is None else largest)
    start, size, largest = (jnp.asarray(x, jnp.int32) for x in each)
    return Shard(jax.tree.map(jnp.asarray, columns), start, size, largest)
