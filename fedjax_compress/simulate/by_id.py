"""Client states on the device, and by client id as checkpoints hold them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.clients import HostStore
from fedjax_compress.typing import Tree


def saved(store: Tree, clients: int) -> Tree:
    """The states of all clients, leaves [clients, ...], each with its id."""
    if not jax.tree.leaves(store):
        return store
    return {"ids": np.arange(clients, dtype=np.int32), "rows": store}


def expected(store: Tree, clients: int) -> Tree:
    """What states by id look like, for some of the clients."""
    if not jax.tree.leaves(store):
        return store
    template = jax.tree.map(lambda x: np.zeros(x.shape[1:], x.dtype), store)
    return HostStore(template, clients).tree


def dense(template: Tree, store: Tree, clients: int) -> Tree:
    """States by id as leaves [clients, ...] on the device; the template, of one
    client, where there is none."""
    if not jax.tree.leaves(store):
        return store
    ids = np.asarray(store["ids"])

    def fill(start: np.ndarray, rows: Any) -> jax.Array:
        whole = np.broadcast_to(start, (clients, *start.shape)).copy()
        whole[ids] = rows
        return jnp.asarray(whole)

    return jax.tree.map(fill, template, store["rows"])
