"""Links that send rows, each by itself, as many as a client has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.algorithms.shared.exchange import refuse_state
from fedjax_compress.typing import Array, Compressor, Key, Keys, Tree


class RowLink(NamedTuple):
    """A compressor of trees of rows.

    Attributes:
      check: one row -> None.
      encode: (rows [largest, ...], how many travel, keys) -> ``wire.Ragged``.
      decode: (that, one row, shared key) -> rows; zeros behind those that travel.
    """

    check: Callable[[Tree], None]
    encode: Callable[[Tree, Array, Keys], wire.Ragged]
    decode: Callable[[wire.Ragged, Tree, Key], Tree]


def row_link(link: Compressor, name: str) -> RowLink:
    """A link that sends each row as a message of its own, with randomness of its own.

    Args:
      link: what each row goes through.
      name: of the link, for messages.

    Raises:
      InputError: from ``check``: the link keeps a state, which rows have not.
    """

    def check(row: Tree) -> None:
        state = jax.eval_shape(link.init, row)
        refuse_state(
            state, f"{name}: rows are sent, which have no state between rounds"
        )

    def encode(rows: Tree, used: Array, keys: Keys) -> wire.Ragged:
        def one(row: Tree, number: Array) -> Tree:
            return link.encode(row, (), keys.fold(number))[0]

        each = jax.vmap(one)(rows, _numbers(rows))
        return wire.ragged(each, used)

    def decode(message: wire.Ragged, row: Tree, shared: Key) -> Tree:
        def one(payload: Tree, number: Array) -> Tree:
            return link.decode(payload, row, jax.random.fold_in(shared, number))

        numbers = _numbers(message.each)
        rows = jax.vmap(one)(message.each, numbers)
        inside = numbers < message.used

        def cut(x: Array) -> Array:
            return jnp.where(inside.reshape(-1, *(1 for _ in x.shape[1:])), x, 0)

        return jax.tree.map(cut, rows)

    return RowLink(check, encode, decode)


def _numbers(rows: Tree) -> Array:
    return jnp.arange(jax.tree.leaves(rows)[0].shape[0])
