"""What each client keeps between rounds, by client id, on the host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_compress import tree as trees
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Tree


class HostStore:
    """Per-client state in host memory, or in memory-mapped files of a folder.

    Memory and disk are taken only by clients that have taken part: untouched rows are
    pages never written, files are sparse. A client never seen has the template's
    values. A folder's files are started afresh; a resumed run fills them by ``load``.

    Attributes:
      template: what a new client starts from; a tree of arrays, ``()`` if stateless.
      clients: number of clients.
      started: bool [clients], who has been stored at least once.
      rows: the template's structure with leaves [clients, ...]; a row counts only
        where ``started``.
    """

    def __init__(
        self, template: Tree, clients: int, folder: str | Path | None = None
    ) -> None:
        self.template = jax.tree.map(np.asarray, template)
        self.clients = clients
        self.folder = Path(folder) if folder is not None else None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.started = self._allocate("started", (clients,), np.dtype(bool))
        leaves = [
            self._allocate(f"{i:03d}_{path}", (clients, *leaf.shape), leaf.dtype)
            for i, (path, leaf) in enumerate(
                zip(
                    trees.paths(self.template),
                    jax.tree.leaves(self.template),
                    strict=True,
                )
            )
        ]
        self.rows = jax.tree.unflatten(jax.tree.structure(self.template), leaves)

    def _allocate(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if self.folder is None or 0 in shape:
            return np.zeros(shape, dtype)
        file = self.folder / (re.sub(r"[^A-Za-z0-9_.-]+", "_", name) + ".bin")
        return np.memmap(file, dtype, "w+", shape=shape)

    @property
    def tree(self) -> Tree:
        """Everything kept, for checkpoints: leaves [clients, ...], not copied."""
        return {"started": self.started, "rows": self.rows}

    def load(self, tree: Tree) -> None:
        """Takes over the values of a ``tree`` saved earlier.

        Raises:
          InputError: another structure, shape or dtype than ``tree`` has here.
        """
        mine, yours = trees.shapes(self.tree), trees.shapes(tree)
        if mine != yours:
            raise InputError("the stored client state belongs to another set-up")
        started = np.asarray(tree["started"])
        ids = np.flatnonzero(started)
        self.started[:] = started
        for row, new in zip(
            jax.tree.leaves(self.rows), jax.tree.leaves(tree["rows"]), strict=True
        ):
            row[ids] = np.asarray(new)[ids]

    def gather(self, ids: np.ndarray) -> Tree:
        """The states of clients ``ids`` [K], as a tree of [K, ...] numpy arrays.

        An id outside 0 .. clients-1 (a dummy) gets the template.
        """
        ids = np.asarray(ids)
        inside = (ids >= 0) & (ids < self.clients)
        known = inside.copy()
        known[inside] = self.started[ids[inside]]

        def read(rows: np.ndarray, start: np.ndarray) -> np.ndarray:
            found = np.empty((len(ids), *start.shape), start.dtype)
            found[known] = rows[ids[known]]
            found[~known] = start
            return found

        return jax.tree.map(read, self.rows, self.template)

    def scatter(self, ids: np.ndarray, tree: Tree) -> None:
        """Stores the states of clients ``ids`` [K]; ids outside are left out."""
        ids = np.asarray(ids)
        inside = (ids >= 0) & (ids < self.clients)

        def write(rows: np.ndarray, new: Any) -> None:
            rows[ids[inside]] = np.asarray(new)[inside]

        jax.tree.map(write, self.rows, tree)
        self.started[ids[inside]] = True
