"""What each client keeps between rounds, by client id, on the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_compress import tree as trees
from fedjax_compress.clients.rows import Blocks, Rows, aligned
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Tree

_MEMORY_BLOCK = 2**26
_FILE_BLOCK = 2**29  # each file takes a descriptor while it is mapped
_ID = np.zeros((), np.int32)
_LARGE = 2**10
"""Rows of this many bytes are copied one by one, at the speed of memory; smaller ones
by an index array, which copies twice."""


class HostStore:
    """Per-client state in host memory, or in memory-mapped files of a folder.

    A client gets a row when it is stored for the first time, so that memory, disk and
    checkpoints grow with those that have taken part, by blocks that are never moved;
    each client of the population costs 8 bytes. A client never seen has the template's
    values. A folder's files are started afresh; a resumed run fills them by ``load``.

    ``gather`` and ``scatter`` may run at the same time for disjoint clients, two
    ``scatter`` may not.

    Args:
      template: what a new client starts from; a tree of arrays, ``()`` if stateless.
      clients: number of clients.
      folder: where the files lie; None keeps everything in memory.
      block: bytes by which the store grows; 0 is 64 MiB of memory, 512 MiB of a file.
    """

    def __init__(
        self,
        template: Tree,
        clients: int,
        folder: str | Path | None = None,
        block: int = 0,
    ) -> None:
        self.template = jax.tree.map(np.asarray, template)
        self.clients = clients
        self.folder = Path(folder) if folder is not None else None
        structure: Any
        self._rows, structure = jax.tree.flatten(self.template)
        self._structure = structure
        block = block or (_MEMORY_BLOCK if self.folder is None else _FILE_BLOCK)
        row = max(1, sum(leaf.nbytes for leaf in self._rows))
        size = min(max(1, block // row), max(1, clients))
        self._blocks = Blocks(self._rows, size, self.folder)
        self._slot = np.full(clients, -1, np.int32)
        self._ids = np.empty(clients, np.int32)
        self._count = 0

    @property
    def started(self) -> int:
        """Number of clients that have been stored at least once."""
        return self._count

    @property
    def ids(self) -> np.ndarray:
        """int32 [started], the clients that have been stored, in the order of rows."""
        return self._ids[: self._count]

    @property
    def nbytes(self) -> int:
        """Bytes of memory or disk set aside for client state."""
        return self._blocks.nbytes

    @property
    def tree(self) -> Tree:
        """Everything kept, for checkpoints; not copied.

        ``ids`` int32 [n] and ``rows``, the template's structure with leaves [n, ...]
        in the order of ``ids``, for the n clients stored so far. Each leaf is a
        ``Rows``.
        """
        n, mapped = self._count, self.folder is not None
        leaves = [
            Rows(sections, n, row, mapped)
            for sections, row in zip(self._blocks.sections, self._rows, strict=True)
        ]
        rows = jax.tree.unflatten(self._structure, leaves)
        return {"ids": Rows([self._ids], n, _ID), "rows": rows}

    def load(self, tree: Tree) -> None:
        """Takes over the values of a ``tree`` saved earlier; arrays or ``Rows``.

        Raises:
          InputError: another structure, shape or dtype than ``tree`` has here, or ids
            that are not distinct clients of this population.
        """
        ids = self._checked(tree)
        self._slot.fill(-1)
        self._count = 0
        self._add(ids)
        for i, new in enumerate(jax.tree.leaves(tree["rows"])):
            first = 0
            for piece in new.pieces() if isinstance(new, Rows) else [np.asarray(new)]:
                self._write(i, np.arange(first, first + len(piece)), piece)
                first += len(piece)

    def _checked(self, tree: Tree) -> np.ndarray:
        """The ids of a tree that can be loaded."""
        refused = InputError(
            "the stored client state belongs to another set-up: expected are the ids "
            f"of distinct clients below {self.clients}, and one row for each of them"
        )
        mine: Any = jax.tree.structure(self.tree)
        if jax.tree.structure(tree) != mine:
            raise refused
        ids = np.asarray(tree["ids"])
        wanted = [(row.dtype, (ids.size, *row.shape)) for row in [_ID, *self._rows]]
        if [(x.dtype, x.shape) for x in jax.tree.leaves(tree)] != wanted:
            raise refused
        outside = ids.size and not 0 <= ids.min() <= ids.max() < self.clients
        if outside or len(np.unique(ids)) != len(ids):
            raise refused
        return ids

    def empty(self, count: int) -> Tree:
        """Arrays [count, ...] of the template's structure for ``gather(out=...)``.

        They are aligned: ``jax.device_put`` on a CPU uses their memory as it is, so
        they may be filled anew only when what was computed from them is done.
        """
        leaves = [aligned((count, *row.shape), row.dtype) for row in self._rows]
        return jax.tree.unflatten(self._structure, leaves)

    def gather(self, ids: np.ndarray, out: Tree | None = None) -> Tree:
        """The states of clients ``ids`` [K], as a tree of [K, ...] numpy arrays.

        Args:
          ids: an id outside 0 .. clients-1 (a dummy) gets the template.
          out: arrays to fill and return, as made by ``empty``; None makes new ones,
            whose memory the system has to clear first.

        Raises:
          InputError: ``out`` does not fit.
        """
        slots = self._slots(np.asarray(ids))
        out = self.empty(len(slots)) if out is None else out
        if trees.shapes(out) != jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((len(slots), *x.shape), x.dtype),
            self.template,
        ):
            raise InputError(f"out must be arrays as made by empty({len(slots)})")
        known, unknown = np.flatnonzero(slots >= 0), np.flatnonzero(slots < 0)
        for i, found in enumerate(jax.tree.leaves(out)):
            sections = self._blocks.sections[i]
            for at, block, row in self._steps(i, known, slots[known]):
                found[at] = sections[block][row]
            for at in _places(unknown, self._rows[i]):
                found[at] = self._rows[i]
        return out

    def scatter(self, ids: np.ndarray, tree: Tree) -> None:
        """Stores the states of distinct clients ``ids`` [K]; ids outside are left out.

        Raises:
          InputError: the disk of the folder is full.
        """
        ids = np.asarray(ids)
        inside = np.flatnonzero((ids >= 0) & (ids < self.clients))
        own = ids[inside]
        self._add(np.unique(own[self._slot[own] < 0]))
        slots = self._slot[own]
        for i, new in enumerate(self._structure.flatten_up_to(tree)):
            self._write(i, slots, np.asarray(new), inside)

    def _slots(self, ids: np.ndarray) -> np.ndarray:
        """The row of each client; -1 for dummies and those never seen."""
        inside = (ids >= 0) & (ids < self.clients)
        slots = np.full(len(ids), -1, np.int32)
        slots[inside] = self._slot[ids[inside]]
        return slots

    def _add(self, ids: np.ndarray) -> None:
        """Gives clients never seen the next rows."""
        count = self._count + len(ids)
        self._blocks.grow(count)
        self._ids[self._count : count] = ids
        self._slot[ids] = np.arange(self._count, count, dtype=np.int32)
        self._count = count

    def _write(
        self, i: int, slots: np.ndarray, new: np.ndarray, at: np.ndarray | None = None
    ) -> None:
        """Rows ``new[at]`` of leaf i into ``slots``."""
        at = np.arange(len(slots)) if at is None else at
        sections = self._blocks.sections[i]
        for place, block, row in self._steps(i, at, slots):
            sections[block][row] = new[place]

    def _steps(
        self, i: int, at: np.ndarray, slots: np.ndarray
    ) -> Iterator[tuple[Any, int, Any]]:
        """(elements of ``at``, block, rows in it) that pass over ``slots`` of leaf i.

        One client a step where rows are large, else one block a step.
        """
        blocks, rows = np.divmod(slots, self._blocks.size)
        if self._rows[i].nbytes >= _LARGE:
            yield from zip(at.tolist(), blocks.tolist(), rows.tolist(), strict=True)
            return
        for block in np.unique(blocks).tolist():
            here = np.flatnonzero(blocks == block)
            yield at[here], block, rows[here]


def _places(at: np.ndarray, row: np.ndarray) -> list[Any]:
    """Indices that cover ``at``, one by one where rows are large."""
    return at.tolist() if row.nbytes >= _LARGE else [at]
