"""All clients' rows in one ragged column each: sorted by client, stored once."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.checks.returned import describe
from fedjax_compress.data.dataset import check_lengths
from fedjax_compress.data.values import expect
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Columns, Shard, rows_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClientData:
    """Everybody's rows, without padding.

    Invariants: rows offsets[c] .. offsets[c+1]-1 belong to client c; offsets start at
    0, never fall, and end at the number of rows. Pixels stay uint8. Where ``rows`` is
    given, the columns are a pool that clients share, and offsets count in ``rows``.

    Attributes:
      columns: [rows, ...] each.
      offsets: int32 [clients + 1].
      rows: int32 [offsets[-1]], which row of the pool stands at each place, or None.
    """

    columns: Columns
    offsets: Array
    rows: Array | None = None

    @property
    def clients(self) -> int:
        """Number of clients."""
        return self.offsets.shape[0] - 1

    @property
    def sizes(self) -> np.ndarray:
        """int32 [clients] on the host: number of rows of each client."""
        return np.diff(np.asarray(self.offsets))

    @property
    def on_disk(self) -> bool:
        """Whether a column is memory-mapped."""
        return any(isinstance(x, np.memmap) for x in self.columns.values())

    def taken(self, places: Any) -> Columns:
        """The rows at places (numbers, or a slice) of ``offsets``, on the host."""
        which = places if self.rows is None else np.asarray(self.rows)[places]
        return {n: np.asarray(x[which]) for n, x in self.columns.items()}

    def size_of(self, client: Array) -> Array:
        """Number of rows of ``client`` (any shape); 0 for ``clients`` and beyond."""
        offsets = jnp.asarray(self.offsets)
        start = jnp.take(offsets, client, mode="clip")
        return jnp.take(offsets, client + 1, mode="clip") - start

    def shard(self, client: Array, largest: Array) -> Shard:
        """One client's rows; works under jit and vmap over ``client``.

        Args:
          client: int32 scalar in 0 .. clients-1; ``clients`` itself is a dummy
            that owns no row.
          largest: int32 scalar, the largest size among clients that run together.
        """
        offsets = jnp.asarray(self.offsets)
        return Shard(
            jax.tree.map(jnp.asarray, self.columns),
            jnp.take(offsets, client, mode="clip"),
            self.size_of(client),
            jnp.asarray(largest, jnp.int32),
            None if self.rows is None else jnp.asarray(self.rows),
        )


def check_owners(what: str, found: object, rows: int) -> np.ndarray:
    """The client of each row, an integer array [rows].

    Args:
      what: whose result it is, for messages.
      found: as it came back.
      rows: how many there are.

    Raises:
      InputError: another shape, no whole numbers, or one below -1.
    """
    owners = np.asarray(found)
    if owners.shape != (rows,):
        raise InputError(
            f"{what} must give one client id for each row, [{rows}], not "
            f"{describe(owners)}"
        )
    if owners.dtype == bool or not np.issubdtype(owners.dtype, np.integer):
        raise InputError(
            f"{what} must give whole numbers, the client id of each row, not "
            f"{describe(owners)}"
        )
    if rows and int(owners.min()) < -1:
        raise InputError(
            f"{what} must give client ids from 0 on, or -1 for a row that nobody "
            f"has, not {int(owners.min())}"
        )
    return owners


def group(
    columns: Columns,
    assignment: np.ndarray,
    clients: int | None = None,
    what: str = "the assignment",
) -> ClientData:
    """Rows by client, on the host; the order within a client is kept.

    Columns in memory are sorted into new arrays. Where one is memory-mapped, none is
    copied: rows that stand client by client already are taken as they stand, others are
    listed in ``ClientData.rows`` (4 bytes a row).

    Args:
      columns: [rows, ...] each.
      assignment: int [rows], client id of each row; -1 leaves the row out.
      clients: number of clients; one without rows gets an empty range. None: one
        more than the largest id.
      what: whose result the assignment is, for messages.

    Raises:
      InputError: an id of ``clients`` or more, or below -1, ids that are not whole
        numbers, lengths that differ, or too many rows.
    """
    check_lengths("these rows", columns)
    assignment = check_owners(what, assignment, rows_of(columns))
    most = int(assignment.max()) + 1 if len(assignment) else 0
    clients = most if clients is None else clients
    if most > clients:
        raise InputError(f"client id {most - 1} lies outside 0..{clients - 1}")
    if len(assignment) >= 2**31:
        raise InputError(f"{len(assignment)} rows; at most {2**31 - 1} can be indexed")
    used = assignment[assignment >= 0]
    counts = np.bincount(used, minlength=clients)
    offsets: Any = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    unused = len(assignment) - len(used)
    data = ClientData(columns, offsets)
    if data.on_disk and bool((assignment[:-1] <= assignment[1:]).all()):
        return ClientData({n: x[unused:] for n, x in columns.items()}, offsets)
    order = np.argsort(assignment, kind="stable")[unused:]
    if data.on_disk:
        rows: Any = order.astype(np.int32)
        for column in columns.values():
            expect(column, scattered=True)
        return ClientData(columns, offsets, rows)
    return ClientData({n: x[order] for n, x in columns.items()}, offsets)
