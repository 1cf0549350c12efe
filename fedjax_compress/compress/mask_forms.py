"""How a mask itself travels."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Payload, Tree

MaskCode = Literal["bitmap", "indices", "dropped", "gaps", "best"]
"""Forms of a mask, as the type of an option."""
_CODES = {
    "bitmap": "fixed",
    "indices": "sparse_fixed",
    "dropped": "sparse_fixed",
    "gaps": "sparse_golomb",
    "best": "sparse_best",
}


def mask_fields(mask: Tree, code: MaskCode = "best") -> Payload:
    """A mask as a payload, one field of two symbols for each array.

    What travels for an array of n elements of which k are kept: bitmap, n bits;
    indices, k in ceil(log2(n + 1)) bits and k positions of ceil(log2 n) bits; dropped,
    the same for the n - k others; gaps, k and the Rice code of the zeros between those
    kept; best, the shortest of these, of the others' gaps and of 16-bit run lengths,
    after 3 bits that say which, see ``wire.codes.sparse_best``.

    Args:
      mask: tree of bool arrays, true for what is kept: of elements, or of units. None
        or True instead of an array, for leaves that are never pruned, sends nothing.
      code: the form.

    Raises:
      InputError: an unknown form, or an array that is not bool.
    """
    _check(code)

    def one(array):
        if array is None or array is True:
            return None
        array = jnp.asarray(array)
        if array.dtype != bool:
            raise InputError(f"a mask must be of bool arrays, not {array.dtype}")
        sent = ~array if code == "dropped" else array
        return wire.Field(sent, 2, _CODES[code], "mask")

    return jax.tree.map(one, mask, is_leaf=lambda x: x is None)


def masks_from(payload: Payload, code: MaskCode = "best") -> Tree:
    """The mask that ``mask_fields`` has made a payload of; None for what it left out.

    Args:
      payload: as it has arrived.
      code: the form it was sent in, which both ends know.

    Raises:
      InputError: an unknown form.
    """
    _check(code)

    def one(field):
        return ~field.symbols if code == "dropped" else field.symbols

    return jax.tree.map(one, payload, is_leaf=lambda x: isinstance(x, wire.Field))


def _check(code: str) -> None:
    if code not in _CODES:
        raise InputError(f"a mask travels as {', '.join(_CODES)}, not {code!r}")
