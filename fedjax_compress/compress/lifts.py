"""From a stage, which works on one array, to a compressor of a whole tree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress import tree, wire
from fedjax_compress.checks import returned
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Compressor, Key, Keys, Stage, Tree


@register("compressor")
def on_leaves(stage: Stage) -> Compressor:
    """The stage on every leaf of the tree by itself.

    What travels: leaf by leaf, the last carrier as it is in memory if there is one,
    then what the stages send, in their order, the fields of a stage by name. A leaf
    without elements sends nothing. Leaf i gets the keys folded by i.

    Claims: those of the stage, for float32 leaves; with several leaves, ``n`` is the
    number of elements of the leaf for which the bound is weakest.
    """

    def init(like):
        states = [stage.init(s) if s.size else () for s in _shapes(like)]
        return tuple(states) if jax.tree.leaves(states) else ()

    def encode(values, state, keys):
        leaves = jax.tree.leaves(values)
        states = state or ((),) * len(_shapes(values))
        each = Keys(*(_keys(key, len(leaves)) for key in keys))
        messages, after = [], []
        for i, leaf in enumerate(leaves):
            own = Keys(each.private[i], each.shared[i])
            message, new = _encode(stage, jnp.asarray(leaf), states[i], own)
            messages.append(message)
            after.append(new)
        return tuple(messages), tuple(after) if jax.tree.leaves(after) else ()

    def decode(payload, like, shared):
        leaves, shapes = [], _shapes(like)
        of_leaf = _keys(shared, len(shapes))
        for i, shape in enumerate(shapes):
            leaves.append(_decode(stage, payload[i], shape, of_leaf[i]))
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    return Compressor(init, encode, decode, stage.claims)


@register("compressor")
def on_vector(stage: Stage) -> Compressor:
    """The stage on the whole tree as one vector, its leaves laid end to end.

    The vector has the dtype of the leaves if they agree, else float32.

    What travels: what the stage sends for the vector, and the last carrier.

    Claims: those of the stage, with ``n`` the number of all elements.
    """

    def init(like):
        shape = _vector_shape(like)
        return stage.init(shape) if shape.size else ()

    def encode(values, state, keys):
        shape = _vector_shape(values)
        # Without the empty ones: of one element and empty slices XLA makes a crash.
        leaves = [jnp.asarray(x).reshape(-1) for x in jax.tree.leaves(values)]
        parts = [leaf.astype(shape.dtype) for leaf in leaves if leaf.size]
        vector = jnp.concatenate(parts) if parts else jnp.zeros(0, shape.dtype)
        return _encode(stage, vector, state, keys)

    def decode(payload, like, shared):
        shapes = _shapes(like)
        vector = _decode(stage, payload, _vector_shape(like), shared)
        leaves, start = [], 0
        for s in shapes:
            part = vector[start : start + s.size] if s.size else jnp.zeros(0, s.dtype)
            leaves.append(part.reshape(s.shape).astype(s.dtype))
            start += s.size
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    return Compressor(init, encode, decode, stage.claims)


def _keys(key: Key, count: int) -> Key:
    """The key folded by 0 .. count - 1, in one step that compiles once."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))


def _encode(stage: Stage, array: Array, state: Any, keys: Keys) -> tuple[Any, Any]:
    if not array.size:
        return (), state
    with returned.within("a stage's encode"):
        carrier, side, state = stage.encode(array, state, keys)
    return {
        "carrier": None if carrier is None else wire.raw(carrier),
        "side": side,
    }, state


def _decode(stage: Stage, message: Any, shape: jax.ShapeDtypeStruct, key: Key) -> Array:
    if not shape.size:
        return jnp.zeros(shape.shape, shape.dtype)
    carrier = message["carrier"]
    symbols = None if carrier is None else carrier.symbols
    with returned.within("a stage's decode"):
        array = stage.decode(symbols, message["side"], key)
    what, wanted = "a stage's decode", "an array of floats as it was encoded"
    return returned.floats(what, array, shape.shape, wanted).astype(shape.dtype)


def _shapes(like: Tree) -> list[jax.ShapeDtypeStruct]:
    """Shape and dtype of each leaf.

    Raises:
      InputError: a leaf that is not real floating point.
    """
    for path, leaf in zip(tree.paths(like), jax.tree.leaves(like), strict=True):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"leaf {path!r} is {leaf.dtype}; only floating leaves are compressed"
            )
    return jax.tree.leaves(tree.shapes(like))


def _vector_shape(like: Tree) -> jax.ShapeDtypeStruct:
    shapes = _shapes(like)
    dtypes = {s.dtype for s in shapes}
    dtype = dtypes.pop() if len(dtypes) == 1 else jnp.dtype(jnp.float32)
    return jax.ShapeDtypeStruct((sum(s.size for s in shapes),), dtype)
