"""Small functions on pytrees of arrays."""

from __future__ import annotations

import functools
import hashlib
import operator

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.typing import Array, Tree

_FEW = 64
"""Up to this many slices are added one by one; more make the program too long."""


def add(a: Tree, b: Tree) -> Tree:
    """a + b, leaf by leaf."""
    return jax.tree.map(jnp.add, a, b)


def subtract(a: Tree, b: Tree) -> Tree:
    """a - b, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)


def scale(a: Tree, factor: Array | float) -> Tree:
    """factor * a, each leaf in its own dtype."""
    with jax.numpy_dtype_promotion("standard"):  # a wider factor is meant to widen
        return jax.tree.map(lambda x: (x * factor).astype(x.dtype), a)


def where(condition: Array, a: Tree, b: Tree) -> Tree:
    """a where the scalar condition holds, else b."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def sum_first(a: Tree) -> Tree:
    """Each leaf summed over its first axis, pair by pair.

    Additions of whole slices in one pass over the memory: XLA's own reduction over
    the first axis takes several times as long on a CPU.
    """

    def total(x: Array) -> Array:
        rows = [x[i] for i in range(x.shape[0])]
        while len(rows) > 1:
            odd = rows[len(rows) // 2 * 2 :]
            pairs = zip(rows[::2], rows[1::2], strict=False)
            rows = [one + other for one, other in pairs] + odd
        return rows[0]

    return jax.tree.map(
        lambda x: total(x) if x.shape[0] <= _FEW else jnp.sum(x, axis=0), a
    )


def zeros_like(a: Tree) -> Tree:
    """A tree of zeros; accepts ``ShapeDtypeStruct`` leaves."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), a)


def shapes(a: Tree) -> Tree:
    """The same tree with ``ShapeDtypeStruct`` leaves."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), a)


def all_finite(a: Tree) -> Array:
    """Bool scalar: no NaN and no infinity anywhere.

    x - x is NaN or 0, and XLA's CPU backend sums faster than it asks ``isfinite``.
    """
    leaves = [
        jnp.sum(x - x) == 0
        for x in jax.tree.leaves(a)
        if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return functools.reduce(jnp.logical_and, leaves, jnp.array(True))


def count(a: Tree) -> int:
    """Number of elements in all leaves."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(a))


def dot(a: Tree, b: Tree) -> Array:
    """The sum of products of all elements, float32."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jnp.sum(jnp.stack([jnp.vdot(x, y) for x, y in pairs]).astype(jnp.float32))


def squared_norm(a: Tree) -> Array:
    """Sum of squares of all leaves, in float32."""
    parts = [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(a)]
    return functools.reduce(operator.add, parts, jnp.zeros((), jnp.float32))


def paths(a: Tree) -> list[str]:
    """The path of each leaf, its parts joined by ``/``, in leaf order."""
    found = jax.tree_util.tree_flatten_with_path(a)[0]
    return [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in found]


def sha256(a: Tree) -> str:
    """Hex digest over paths, dtypes, shapes and bytes of all leaves."""
    digest = hashlib.sha256()
    for path, leaf in zip(paths(a), jax.tree.leaves(a), strict=True):
        array = np.asarray(leaf)
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
