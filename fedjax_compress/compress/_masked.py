"""Messages of pruned trees: under a mask that both ends know, only what is kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import tree, wire
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.bitset import WORD, pack_mask
from fedjax_compress.typing import Array, Compressor, Key, Keys, Payload, Tree

_PROBE = 1000
"""Leaf i of a tree that shows which field belongs to which leaf has 1000 + i rows."""


class Masked(NamedTuple):
    """A compressor of trees in which both ends know what is zero. It keeps no state.

    A mask is a tree of bool arrays like the leaves, true for elements that are kept.
    None or True instead of an array: a leaf that is never pruned.

    Attributes:
      init_check: tree (shapes are enough) -> None, or an InputError if the compressor
        cannot be used with it.
      encode: (tree, mask, keys) -> payload.
      decode: (payload, a tree of the right shapes, mask, shared key) -> tree.
    """

    init_check: Callable[[Tree], None]
    encode: Callable[[Tree, Tree, Keys], Payload]
    decode: Callable[[Payload, Tree, Tree, Key], Tree]


def masked(compressor: Compressor) -> Masked:
    """The compressor on what a mask keeps, for masks that both ends know.

    The kept elements of each leaf move to its front, in their order, and zeros fill it
    up; the compressor encodes that, and the symbols of the zeros are left out. Decoding
    moves the elements back, with zeros wherever the mask is false. Where a mask is all
    true, or where there is none, C(x) is what the compressor makes of x.

    What travels: what the compressor sends; but of n symbols in code fixed or radix
    only those of the k kept elements, fewer if the last of them are 0, in
    ceil(log2(n + 1)) + k ceil(log2 alphabet) bits (``leading``). In other codes the
    symbols of the zeros are 0, which most of them make short. The mask costs nothing;
    when it changes, ``mask_fields`` sends it.

    Args:
      compressor: elementwise and without state, such as ``on_leaves(uniform(bits=4))``.

    Raises:
      InputError: it is not elementwise. From what is returned: it keeps a state, it
        sends several leaves as one vector, or the mask does not fit the tree.

    Deviations: scales are of the kept elements and of the zeros behind them: a mean is
    over all n elements, minima and maxima include 0. Buckets and columns are of the
    leaf after the kept elements have moved to its front.
    """
    if not compressor.claims.elementwise:
        raise InputError(
            "masked needs a compressor that is elementwise, without a state, such as "
            "identity, cast, uniform, qsgd, terngrad or sign; with a rotation, top_k, "
            "random_k, a sketch, low rank or error_feedback symbols cannot be left out"
        )

    def init_check(like):
        _owners(compressor, like)

    def encode(values, mask, keys):
        owners = _owners(compressor, values)
        masks = _masks(mask, values)
        leaves = [jnp.asarray(x) for x in jax.tree.leaves(values)]
        front = [
            x if m is None else _to_front(x, m)
            for x, m in zip(leaves, masks, strict=True)
        ]
        packed = jax.tree.unflatten(jax.tree.structure(values), front)
        payload, _ = compressor.encode(packed, (), keys)
        parts, structure = jax.tree.flatten(payload, is_leaf=_is_field)
        sent = [
            part if owner is None else _cut(part, masks[owner])
            for part, owner in zip(parts, owners, strict=True)
        ]
        return jax.tree.unflatten(structure, sent)

    def decode(payload, like, mask, shared):
        front = jax.tree.leaves(compressor.decode(payload, like, shared))
        masks = _masks(mask, like)
        leaves = [
            x if m is None else _back(x, m) for x, m in zip(front, masks, strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    return Masked(init_check, encode, decode)


def _is_field(node: Any) -> bool:
    return isinstance(node, wire.Field)


def _owners(compressor: Compressor, like: Tree) -> list[int | None]:
    """For each field of a message, in order, the leaf whose elements are its symbols.

    Seen from the message for a tree of the same structure whose leaves all have numbers
    of elements of their own; nothing is computed.

    Raises:
      InputError: the compressor keeps a state, or a leaf has no field to itself.
    """
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in jax.tree.leaves(like)]
    probe = []
    for i, s in enumerate(shapes):
        shape = (_PROBE + i, *(1 for _ in s.shape[1:])) if s.size else s.shape
        probe.append(jax.ShapeDtypeStruct(shape, s.dtype))
    other = jax.tree.unflatten(jax.tree.structure(like), probe)
    if jax.tree.leaves(jax.eval_shape(compressor.init, other)):
        raise InputError(
            "masked needs a compressor without a state; keep what compression loses "
            "outside of it, beside the mask"
        )

    def message(values: Tree) -> Payload:
        key = jax.random.key(0)
        return compressor.encode(values, (), Keys(key, key))[0]

    leaf_of = {s.size: i for i, s in enumerate(probe) if s.size}
    owners = [
        leaf_of.get(math.prod(field.symbols.shape)) if field.kind == "values" else None
        for field in wire.fields(jax.eval_shape(message, other))
    ]
    for i, path in enumerate(tree.paths(like)):
        if shapes[i].size and i not in owners:
            raise InputError(
                f"leaf {path!r} has no field to itself in the message, so its symbols "
                "cannot be left out; take on_leaves instead of on_vector"
            )
    return owners


def _masks(mask: Tree, like: Tree) -> list[Array | None]:
    """The mask of each leaf, None where all of it is kept.

    Raises:
      InputError: the mask does not fit the tree.
    """
    found: list[Any] = []
    try:
        jax.tree.map(lambda _, one: found.append(one), like, mask)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the mask needs the structure of the tree: {reason}"
        ) from None
    masks: list[Array | None] = []
    leaves = zip(tree.paths(like), jax.tree.leaves(like), found, strict=True)
    for path, leaf, one in leaves:
        if one is None or one is True or not leaf.size:
            masks.append(None)
            continue
        dtype, shape = getattr(one, "dtype", type(one)), getattr(one, "shape", ())
        if str(dtype) != "bool" or tuple(shape) != leaf.shape:
            raise InputError(
                f"the mask of leaf {path!r} must be bool{list(leaf.shape)}, True or "
                f"None, not {dtype}{list(shape)}"
            )
        masks.append(jnp.asarray(one))
    return masks


def _ranks(mask: Array) -> Array:
    """How many elements in front of each one are kept, int32 [n].

    From the words of a bitset, in half the time of a cumulative sum over n elements.
    """
    words = pack_mask(mask)
    counts = jax.lax.population_count(words).astype(jnp.int32)
    before = jnp.cumsum(counts) - counts
    below = (jnp.uint32(1) << jnp.arange(WORD, dtype=jnp.uint32)) - 1
    inside = jax.lax.population_count(words[:, None] & below[None]).astype(jnp.int32)
    return (before[:, None] + inside).reshape(-1)[: mask.size]


def _to_front(array: Array, mask: Array) -> Array:
    """The kept elements first, in their order, then zeros; in the array's shape."""
    kept = mask.reshape(-1)
    place = jnp.where(kept, _ranks(kept), array.size)
    zeros = jnp.zeros(array.size, array.dtype)
    return zeros.at[place].set(array.reshape(-1), mode="drop").reshape(array.shape)


def _back(array: Array, mask: Array) -> Array:
    """The inverse of ``_to_front``: zeros where the mask is false."""
    kept = mask.reshape(-1)
    found = array.reshape(-1).at[_ranks(kept)].get(mode="promise_in_bounds")
    return jnp.where(kept, found, 0).reshape(array.shape)


def _cut(field: wire.Field, mask: Array | None) -> wire.Field:
    """Only the symbols of kept elements: 0 behind them, where leading sends nothing."""
    if mask is None:
        return field
    symbols = field.symbols
    kept = jnp.sum(mask.astype(jnp.int32))
    inside = (jnp.arange(symbols.size, dtype=jnp.int32) < kept).reshape(symbols.shape)
    sent = jnp.where(inside, symbols, jnp.zeros((), symbols.dtype))
    shorter = wire.CODES[field.code].symbolwise
    return dataclasses.replace(
        field, symbols=sent, code="leading" if shorter else field.code
    )
