"""What clients keep between rounds: on the device while it fits, else on the host."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.clients import HostStore
from fedjax_compress.errors import InputError
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.states import HostStates
from fedjax_compress.typing import ClientState, Tree


class Keeping:
    """State and record of every client of a run.

    On the device they are leaves [clients, ...], which rounds take and give back as the
    ``store``; on the host the store is empty.

    Args:
      template: of one client, arrays.
      clients: their number.
      placement: the devices.
      limit: more bytes than this are kept on the host; with several devices all are.

    Attributes:
      hosted: whether they are kept on the host.
      host: what keeps them there, from ``begin`` on; else None.
    """

    def __init__(self, template: Tree, clients: int, placement: Placement, limit: int):
        self.template, self.clients = jax.device_get(template), clients
        self.placement = placement
        leaves = jax.tree.leaves(self.template)
        need = clients * sum(x.nbytes for x in leaves)
        fits = placement.devices == 1 and need <= limit
        self.hosted = bool(leaves) and not fits
        self.host: HostStates | None = None

    def begin(self, worker: ThreadPoolExecutor) -> Tree:
        """The store before the first round; ``worker`` reads and writes on the host."""
        if self.hosted:
            store = HostStore(self.template, self.clients)
            self.host = HostStates(store, self.placement, worker)
            return ()
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x, (self.clients, *x.shape)).copy(),
            self.template,
        )

    def saved(self, store: Tree) -> Tree:
        """All states as a checkpoint holds them, leaves [clients, ...], by id."""
        if self.host is not None:
            return self.host.tree
        if not jax.tree.leaves(store):
            return store
        return {"ids": np.arange(self.clients, dtype=np.int32), "rows": store}

    def expected(self, store: Tree) -> Tree:
        """What such a checkpoint looks like, of some of the clients."""
        if self.host is not None:
            return self.host.tree
        if not jax.tree.leaves(store):
            return store
        return HostStore(self.template, self.clients).tree

    def loaded(self, saved: Tree) -> Tree:
        """The store of a checkpoint, of some clients; others are as at the start."""
        if self.host is not None:
            self.host.load(saved)
            return ()
        if not jax.tree.leaves(saved):
            return saved
        ids = np.asarray(saved["ids"])

        def fill(start: np.ndarray, rows: Any) -> jax.Array:
            whole = np.broadcast_to(start, (self.clients, *start.shape)).copy()
            whole[ids] = rows
            return jnp.asarray(whole)

        return jax.tree.map(fill, self.template, saved["rows"])

    def states(self, store: Tree, ids: np.ndarray) -> ClientState:
        """The states of some clients, leaves [n, ...].

        Raises:
          InputError: several processes keep them.
        """
        if self.host is None:
            return jax.tree.map(lambda x: x[ids], store.state)
        if self.placement.processes > 1:
            raise InputError(
                "states are kept on the host, by each process those of its own "
                "clients; ask for them in a run of one process"
            )
        found: ClientState = self.host.of(ids).state
        return found
