"""Classes that a client has no rows of, which its training leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_compress import tree
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Columns, Cuts, Model, Params, Shard, Tree

_LOOK = 64
"""Rows looked at together for their classes."""


def classes_of(shard: Shard, classes: int) -> Array:
    """Whether a client has rows of each class, bool [classes]."""
    numbers = jnp.arange(classes, dtype=jnp.int32)

    def look(i: Array, found: Array) -> Array:
        index = i * _LOOK + jnp.arange(_LOOK, dtype=jnp.int32)
        batch = shard.take(index, index < shard.size)
        labels = batch.columns["labels"].reshape(_LOOK, -1).astype(jnp.int32)
        labels = jnp.where(batch.mask[:, None] > 0, labels, -1).reshape(-1)
        return found | jnp.any(labels[:, None] == numbers[None], axis=0)

    blocks = (shard.largest + _LOOK - 1) // _LOOK
    return jax.lax.fori_loop(0, blocks, look, jnp.zeros(classes, bool))


def classes(params: Params, cuts: Cuts) -> int:
    """Number of classes of a model, from its outputs."""
    leaves = dict(zip(tree.paths(params), jax.tree.leaves(params), strict=True))
    return int(leaves[cuts.outputs[0]].shape[-1])


def without(net: Callable[[Array], Model], present: Array) -> Callable[[Array], Model]:
    """Networks whose loss reads 0 for the outputs of classes that are not present.

    Raises:
      InputError: while the loss is traced: its labels are no numbers of classes.
    """

    def at(t: Array) -> Model:
        model = net(t)

        def losses(outputs: Array, columns: Columns) -> tuple[Array, Array]:
            labels = columns["labels"]
            whole = jnp.issubdtype(labels.dtype, jnp.integer)
            if not whole or labels.ndim != outputs.ndim - 1:
                raise InputError(
                    "classes that a client does not have can be masked only where each "
                    "label is the number of a class; say mask_classes=false"
                )
            return model.losses(jnp.where(present, outputs, 0.0), columns)

        return model._replace(losses=losses)

    return at


def only(held: Tree, present: Array, cuts: Cuts) -> Tree:
    """Masks of the outputs for the classes that are present only."""
    leaves, structure = jax.tree.flatten(held)
    named = zip(tree.paths(held), leaves, strict=True)
    share = present.astype(jnp.float32)

    def part(x: Array) -> Array:
        return x * share.reshape((1,) * (x.ndim - 1) + (-1,))

    parts = [part(x) if path in cuts.outputs else x for path, x in named]
    return jax.tree.unflatten(structure, parts)
