"""Messages that hold as many rows as a client has: what each row costs, and no more."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Payload
from fedjax_compress.wire.field import Field

COUNT_BITS = 32
"""The number of rows travels in front of them."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ragged:
    """Payloads of rows side by side, of which the first few travel.

    Invariant: what lies behind them is zero. ``ragged`` makes it so.

    Attributes:
      each: payload of one row, every array of it with an axis of rows in front.
      used: int32 scalar, how many travel.
    """

    each: Payload
    used: Array


def ragged(each: Payload, used: Array) -> Ragged:
    """The first ``used`` rows of a payload that was made under ``vmap`` over rows."""

    def cut(symbols: Array) -> Array:
        inside = jnp.arange(symbols.shape[0]) < used
        inside = inside.reshape(-1, *(1 for _ in symbols.shape[1:]))
        return jnp.where(inside, symbols, jnp.zeros((), symbols.dtype))

    return Ragged(jax.tree.map(cut, each), jnp.asarray(used, jnp.int32))


def pieces(payload: Payload) -> Iterator[Field | Ragged]:
    """What a payload is made of, in pytree order: fields, and rows as one piece.

    Raises:
      InputError: the payload holds an array outside of both, whose bits nobody counts.
    """
    for leaf in jax.tree.leaves(payload, is_leaf=_is_piece):
        if not _is_piece(leaf):
            what = f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else leaf
            raise InputError(f"a payload may hold arrays only in a Field, found {what}")
        yield leaf


def row(piece: Ragged, number: int) -> Payload:
    """The payload of one row; works on concrete arrays and, for 0, on shapes."""

    def one(symbols: Array) -> Array:
        if isinstance(symbols, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(symbols.shape[1:], symbols.dtype)  # type: ignore
        return symbols[number]

    return jax.tree.map(one, piece.each)


def number_of_rows(piece: Ragged) -> int:
    """How many rows there is room for."""
    leaves = jax.tree.leaves(piece.each)
    return int(leaves[0].shape[0]) if leaves else 0


def joined(rows: list[Payload], piece: Ragged) -> Ragged:
    """The piece of rows that have arrived, numpy arrays; zeros behind them.

    Args:
      rows: payloads.
      piece: another of its shape.
    """
    used = np.int32(len(rows))

    def fill(like: Array, *symbols: Array) -> Array:
        found = np.zeros(like.shape, like.dtype)
        for i, one in enumerate(symbols):
            found[i] = np.asarray(one)
        return jnp.asarray(found)

    return Ragged(jax.tree.map(fill, piece.each, *rows), jnp.asarray(used))


def _is_piece(node: object) -> bool:
    return isinstance(node, (Field, Ragged))
