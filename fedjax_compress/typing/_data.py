"""Rows by name, of a batch and of one client; what a model must fit to."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.typing._rounds import Array, Columns


class Batch(NamedTuple):
    """Rows of one client.

    Attributes:
      columns: [batch, ...] each, as stored (uint8 stays uint8 until the model reads
        it).
      mask: [batch], float32; 1 for a real row, 0 for filling.
    """

    columns: Columns
    mask: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shard:
    """One client's rows inside the ragged columns that hold everybody's.

    Invariants: rows start .. start + size - 1 belong to the client;
    0 <= size <= largest. Under vmap over clients ``start`` and ``size`` are mapped,
    the columns and ``largest`` are not, so a loop bound computed from ``largest``
    stays one scalar for the whole chunk of clients.

    Attributes:
      columns: [rows of all clients, ...] each.
      start: int32 scalar, first row of this client.
      size: int32 scalar, number of rows of this client; 0 for a dummy.
      largest: int32 scalar, the largest size among clients that run together.
      rows: int32 [places of all clients], if the columns are a pool that clients
        share: the client's rows are then those that places start .. start + size - 1
        name. None: the client's rows stand in the columns themselves.
    """

    columns: Columns
    start: Array
    size: Array
    largest: Array
    rows: Array | None = None

    def take(self, index: Array, mask: Array) -> Batch:
        """The rows ``index`` [batch] (0-based within the client), masked by ``mask``.

        Masked-out positions read row ``start`` or a valid neighbour and carry mask 0.
        """
        rows = self.start + jnp.where(mask, index, 0)
        if self.rows is not None:
            rows = self.rows.at[rows].get(mode="clip")
        rows = jnp.clip(rows, 0, rows_of(self.columns) - 1)
        taken = {n: jnp.take(x, rows, axis=0) for n, x in self.columns.items()}
        return Batch(taken, mask.astype(jnp.float32))


def rows_of(columns: Columns) -> int:
    """The number of rows of columns."""
    return int(next(iter(columns.values())).shape[0])


Target = Literal["class", "positions", "several", "number", "sequence"]


class Task(NamedTuple):
    """What a model must fit to.

    Attributes:
      shape: shape of one example's features, without the batch axis.
      classes: number of classes (vocabulary size for text); of numbers that are
        predicted, where those are.
      tokens: whether features are integer tokens rather than numbers or pixels.
      scale: what features are divided by before a network reads them. None: uint8
        pictures by 255, all else by 1.
      target: what ``labels`` hold: ``class``, an integer a row; ``positions``, one for
        each token or pixel; ``several``, 0 or 1 for each class; ``number``, a float or
        ``classes`` of them; ``sequence``, as many symbols as the column
        ``label_lengths`` says, in 1 .. classes-1 and then zeros, in order but not
        aligned with the features, as words are with sounds. None: positions for
        tokens, else class.
      more: further columns that a model may read: (name, shape of one row, dtype).
      longest: of a ``sequence``, symbols for which there is room in a row of labels.
      symbols: what the classes are called, in their order; empty where unknown. Of a
        ``sequence``, class 0 stands for no symbol (blank, padding), and where one of
        them is a space, words are what stands between spaces.
    """

    shape: tuple[int, ...]
    classes: int
    tokens: bool = False
    scale: float | None = None
    target: Target | None = None
    more: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    longest: int = 0
    symbols: tuple[str, ...] = ()

    @property
    def predicts(self) -> Target:
        """What ``labels`` hold."""
        return self.target or ("positions" if self.tokens else "class")


PIXEL = 255.0
"""The largest value of a pixel that is stored as a whole number."""


def has_pictures(shape: tuple[int, ...]) -> bool:
    """Whether examples of this shape have two axes longer than one, as pictures."""
    return sum(n > 1 for n in shape) >= 2
