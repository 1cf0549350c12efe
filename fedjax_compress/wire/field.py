"""What a payload is made of: symbols that say how many values each can take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Payload


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Field:
    """Symbols that travel, and all that is needed to count and write their bits.

    Invariants: every symbol is an integer in 0 .. alphabet - 1; or the alphabet is
    ``2 ** (8 * itemsize)`` and the symbol stands for its own bit pattern, which is
    how floats travel. Under ``vmap`` one Field is one message's.

    Attributes:
      symbols: array of any shape, in C order on the wire.
      alphabet: number of distinct symbols.
      code: how the symbols become bits; a name in ``wire.code``.
      kind: values, indices, scales or mask. It has no influence on the bits; papers
        leave scales out of their counts, and ``wire.nominal_size`` follows them.
    """

    symbols: Array
    alphabet: int = dataclasses.field(metadata={"static": True})
    code: str = dataclasses.field(default="fixed", metadata={"static": True})
    kind: str = dataclasses.field(default="values", metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shape:
    """Static facts about an array, as a pytree node without leaves: costs no bits.

    Attributes:
      shape: of the array that was encoded.
      dtype: its dtype's name.
    """

    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    dtype: str = dataclasses.field(metadata={"static": True})


def raw(array: Array, kind: str = "values") -> Field:
    """A field of words: each element travels as the bits it has in memory."""
    alphabet = 2 if array.dtype == bool else 2 ** (8 * array.dtype.itemsize)
    return Field(array, alphabet, "fixed", kind)


def shape_of(array: Array) -> Shape:
    """The static facts about ``array``."""
    return Shape(tuple(array.shape), str(array.dtype))


def fields(payload: Payload) -> Iterator[Field]:
    """All fields of a payload, in pytree order.

    Raises:
      InputError: the payload holds an array outside a Field, whose bits nobody counts.
    """
    for leaf in jax.tree.leaves(payload, is_leaf=lambda x: isinstance(x, Field)):
        if not isinstance(leaf, Field):
            what = f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else leaf
            raise InputError(f"a payload may hold arrays only in a Field, found {what}")
        yield leaf


def count(field: Field) -> int:
    """The number of symbols of a field; accepts ``ShapeDtypeStruct``."""
    return int(np.prod(field.symbols.shape, dtype=np.int64))


def is_word(field: Field) -> bool:
    """Whether the symbols stand for their own bit pattern."""
    return field.alphabet == 2 ** (8 * np.dtype(field.symbols.dtype).itemsize)


def numbers(field: Field) -> Array:
    """The symbols of a field as unsigned integers [n], inside jit."""
    symbols = jnp.asarray(field.symbols).reshape(-1)
    if is_word(field) and symbols.dtype != bool:
        unsigned = jnp.dtype(f"uint{8 * symbols.dtype.itemsize}")
        return jax.lax.bitcast_convert_type(symbols, unsigned)
    return symbols.astype(jnp.uint32)


def smallest(alphabet: int) -> Any:
    """The narrowest unsigned dtype that holds symbols of the alphabet."""
    for dtype in (np.uint8, np.uint16, np.uint32):
        if alphabet <= 2 ** (8 * np.dtype(dtype).itemsize):
            return dtype
    raise InputError(f"an alphabet of {alphabet} symbols is too large; at most 2**32")
