"""Client states kept on the host: read ahead of a round, written back behind it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.clients import HostStore
from fedjax_compress.clients.rows import Rows, aligned
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.plan import DUMMY
from fedjax_compress.typing import Tree


class StateBuffer:
    """The states of one cohort: arrays for the program, rows for the host.

    On a CPU both are the same memory. The program is given it up and leaves the new
    states in it, so that a round neither copies nor allocates them: fresh memory costs
    as much as a copy, page by page. Elsewhere the rows are arrays of the host's own.

    The rows may be read and written except between ``arrays`` and ``take``, when the
    memory is the program's.

    Args:
      placement: the devices; each process holds the rows of its own.
      template: state of one client, a tree of numpy arrays.
      chunks: of one device.
      lanes: of one chunk.

    Attributes:
      rows: for each own device a tree of arrays [chunks * lanes, ...].
    """

    def __init__(self, placement: Placement, template: Tree, chunks: int, lanes: int):
        self.placement = placement
        self.rows: list[Tree] = []
        self._in_place = placement.own_devices[0].platform == "cpu"
        self._arrays: Tree = None
        shape = chunks, lanes
        if self._in_place:
            self.take(jax.tree.map(lambda x: self._zeros(shape, x), template))
            return
        self._seats = shape
        for _ in placement.own_devices:
            rows = jax.tree.map(
                lambda x: aligned((chunks * lanes, *x.shape), x.dtype), template
            )
            self.rows.append(rows)

    def arrays(self) -> Tree:
        """The states for the program, [chunks of all devices, lanes, ...]."""
        if self._in_place:
            given, self._arrays, self.rows = self._arrays, None, []
            return given
        devices = self.placement.own_devices

        def put(*rows: np.ndarray) -> jax.Array:
            parts = [
                jax.device_put(x.reshape(*self._seats, *x.shape[1:]), device)
                for x, device in zip(rows, devices, strict=True)
            ]
            return self.placement.join(parts)

        return jax.tree.map(put, *self.rows)

    def take(self, arrays: Tree) -> None:
        """Holds what the program has left, wherever it has put it."""
        places = range(len(self.placement.own_devices))

        def part(place: int, x: jax.Array) -> jax.Array:
            return self.placement.own_parts(x)[place]

        def read(place: int, rows: np.ndarray, x: jax.Array) -> None:
            rows[...] = np.asarray(part(place, x)).reshape(rows.shape)

        if not self._in_place:
            for place in places:
                jax.tree.map(partial(read, place), self.rows[place], arrays)
            return
        self._arrays = jax.block_until_ready(arrays)
        self.rows = [
            jax.tree.map(lambda x, p=place: _rows(_memory(part(p, x))), arrays)
            for place in places
        ]

    def _zeros(self, seats: tuple[int, int], row: np.ndarray) -> jax.Array:
        devices = self.placement.own_devices
        return self.placement.join(
            [jnp.zeros((*seats, *row.shape), row.dtype, device=d) for d in devices]
        )


def _rows(array: np.ndarray) -> np.ndarray:
    """[chunks, lanes, ...] as [chunks * lanes, ...]."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def _memory(array: jax.Array) -> np.ndarray:
    """The memory of an array on one CPU device, to be read and written.

    Whoever takes it keeps the array. ``np.asarray`` gives it for reading only, and
    whoever has asked for that cannot give the array up to a program.
    """
    if not array.nbytes:
        return np.empty(array.shape, array.dtype)
    place = array.unsafe_buffer_pointer()
    raw: Any = (ctypes.c_char * array.nbytes).from_address(place)
    return np.frombuffer(raw, np.uint8).view(array.dtype).reshape(array.shape)


class HostStates:
    """The states of a population, of which a round sees the cohort's.

    Reading for the next round and writing back the last one are jobs of one worker,
    done in the order of submission. Reading comes before the round in progress has
    been written back, so clients of both rounds are renewed from its result. Two
    buffers take turns: one holds the round in progress and then its result, the other
    is filled for the next.

    Args:
      store: where the states are kept.
      placement: the devices; each process keeps the states of its own lanes.
      worker: the thread that reads and writes.
    """

    def __init__(
        self, store: HostStore, placement: Placement, worker: ThreadPoolExecutor
    ):
        self.store, self.placement, self.worker = store, placement, worker
        self._last: tuple[np.ndarray, StateBuffer] | None = None
        self._free: list[StateBuffer] = []
        self._writing: Future[None] | None = None

    def gather(self, ids: np.ndarray) -> StateBuffer:
        """States of the lanes of this process; in the worker.

        Args:
          ids: int32 [1, chunks of all devices, lanes].
        """
        chunks, lanes = ids.shape[1] // self.placement.devices, ids.shape[2]
        if self._free:
            buffer = self._free.pop()
        else:
            buffer = StateBuffer(self.placement, self.store.template, chunks, lanes)
        for clients, rows in zip(self._own(ids), buffer.rows, strict=True):
            self.store.gather(clients, out=rows)
        return buffer

    def renew(self, ids: np.ndarray, buffer: StateBuffer) -> None:
        """Writes what the last round has made of clients that it had as well.

        The buffer of the last round is free from here on.
        """
        if self._last is None:
            return
        before, made = self._last
        self._last = None
        order = np.argsort(before, axis=None)
        known = before.reshape(-1)[order]
        for clients, rows in zip(self._own(ids), buffer.rows, strict=True):
            spot = np.minimum(np.searchsorted(known, clients), known.size - 1)
            twice = np.flatnonzero((known[spot] == clients) & (clients != DUMMY))
            parts, source = np.divmod(order[spot[twice]], before.shape[1])
            for place, part in enumerate(made.rows):
                here = parts == place
                self._copy(rows, twice[here], part, source[here])
        self._free.append(made)

    @staticmethod
    def _copy(into: Tree, at: np.ndarray, of: Tree, source: np.ndarray) -> None:
        def copy(all: np.ndarray, new: np.ndarray) -> None:
            for one, other in zip(at.tolist(), source.tolist(), strict=True):
                all[one] = new[other]

        jax.tree.map(copy, into, of)

    def keep(self, ids: np.ndarray, buffer: StateBuffer, new: Tree) -> None:
        """Takes the states that a round leaves behind; they are written later.

        Args:
          ids: of the round.
          buffer: what the round was given.
          new: arrays [chunks of all devices, lanes, ...].
        """
        self.settle()
        buffer.take(new)
        own = self._own(ids)
        self._last = own, buffer
        self._writing = self.worker.submit(self._write, own, buffer)

    def _write(self, own: np.ndarray, buffer: StateBuffer) -> None:
        for clients, rows in zip(own, buffer.rows, strict=True):
            self.store.scatter(clients, rows)

    def settle(self) -> None:
        """Returns when everything is written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def of(self, clients: np.ndarray) -> Tree:
        """The states of some clients of this process, leaves [n, ...]."""
        self.settle()
        return self.store.gather(clients)

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
        """The clients of the one round in ``ids``, [own devices, chunks * lanes]."""
        return ids.reshape(self.placement.devices, -1)[self.placement.own]


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
