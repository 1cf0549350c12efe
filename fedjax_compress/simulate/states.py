"""Client states kept on the host: read ahead of a round, written back behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from fedjax_compress.clients import HostStore
from fedjax_compress.clients.rows import Rows
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.plan import DUMMY
from fedjax_compress.typing import Tree


class HostStates:
    """The states of a population, of which a round sees the cohort's.

    Reading for the next round and writing back the last one are jobs of one worker,
    done in the order of submission. Reading comes before the round in progress has
    been written back, so clients of both rounds are renewed from its result.

    Args:
      store: where the states are kept.
      placement: the devices; each process keeps the states of its own lanes.
      worker: the thread that reads and writes.
    """

    def __init__(
        self, store: HostStore, placement: Placement, worker: ThreadPoolExecutor
    ):
        self.store, self.placement, self.worker = store, placement, worker
        self._last: tuple[np.ndarray, Tree] | None = None
        self._buffers: list[Tree] = []
        self._writing: Future[None] | None = None

    def gather(self, ids: np.ndarray) -> Tree:
        """States of the lanes of this process, [chunks, lanes, ...]; in the worker."""
        own = self._own(ids)
        found = self.store.gather(own.reshape(-1), out=self._buffer(own.size))
        return jax.tree.map(lambda x: x.reshape(*own.shape, *x.shape[1:]), found)

    def _buffer(self, clients: int) -> Tree:
        """One of two buffers, in turn: fresh memory would cost as much as copying.

        On the CPU the program reads the buffer itself. It is filled again two rounds
        later, when the round that read it is long over.
        """
        if len(self._buffers) < 2:
            self._buffers.append(self.store.empty(clients))
            return self._buffers[-1]
        self._buffers.reverse()
        return self._buffers[-1]

    def renew(self, ids: np.ndarray, states: Tree) -> Tree:
        """``states``, with what the last round has made of clients it had as well."""
        if self._last is None:
            return states
        before, made = self._last
        own = self._own(ids)
        flat = own.reshape(-1)
        order = np.argsort(before)
        spot = np.minimum(np.searchsorted(before, flat, sorter=order), len(before) - 1)
        source = order[spot]
        twice = np.flatnonzero((before[source] == flat) & (flat != DUMMY))

        def write(all: np.ndarray, new: np.ndarray) -> np.ndarray:
            rows = all.reshape(-1, *all.shape[2:])
            rows[twice] = new[source[twice]]
            return all

        return jax.tree.map(write, states, made)

    def keep(self, ids: np.ndarray, new: Tree) -> None:
        """Takes the states that a round leaves behind; they are written later."""
        self.settle()
        flat = self._own(ids).reshape(-1)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), new)
        self._last = flat, rows
        self._writing = self.worker.submit(self.store.scatter, flat, rows)

    def settle(self) -> None:
        """Returns when everything is written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    @property
    def tree(self) -> Tree:
        """Everything kept, for a checkpoint."""
        self.settle()
        return self.store.tree

    def load(self, tree: Tree) -> None:
        """Takes over states saved earlier, those of this process' clients."""
        self.settle()
        self._last = None
        count, ids = self.placement.processes, np.asarray(tree["ids"])
        if count > 1:
            own = ids % count == self.placement.process
            tree = jax.tree.map(lambda rows: chosen(rows, own), tree)
        self.store.load(tree)

    def _own(self, ids: np.ndarray) -> np.ndarray:
        """[chunks of this process, lanes] of the one round in ``ids``."""
        each = ids.reshape(self.placement.devices, -1, ids.shape[-1])
        return each[self.placement.own].reshape(-1, ids.shape[-1])


def chosen(rows: Any, which: np.ndarray) -> Rows:
    """Some rows of an array or of ``Rows``, copied when they are read."""
    pieces = list(rows.pieces()) if isinstance(rows, Rows) else [np.asarray(rows)]
    row = np.zeros(rows.shape[1:], rows.dtype)
    return Rows(_Chosen(pieces, which), int(which.sum()), row)


class _Chosen(Sequence[np.ndarray]):
    """The chosen rows of pieces, a block at a time."""

    block = 1024

    def __init__(self, pieces: list[np.ndarray], which: np.ndarray):
        self._blocks = [
            piece[i : i + self.block]
            for piece in pieces
            for i in range(0, len(piece), self.block)
        ]
        ends = np.cumsum([len(block) for block in self._blocks])[:-1]
        self._which = np.split(which, ends) if self._blocks else []

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, i: Any) -> Any:
        return self._blocks[i][self._which[i]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))
