"""Cutting a model's parameters to some of its units, and putting them back."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_compress import tree
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Cuts, Params, Tie, Tree

Kept = dict[str, Array]
"""Group -> the units kept of it, int32 [count], increasing."""
Sizes = dict[str, int]
"""Group -> a number of units."""


def counts(cuts: Cuts, keep_rate: float) -> Sizes:
    """max(1, floor(keep_rate units + 1/2)) units of each group.

    Args:
      cuts: along which axes the model can be cut.
      keep_rate: share of the units that is kept, above 0, at most 1.

    Raises:
      InputError: a keep rate out of its range.
    """
    if not 0 < keep_rate <= 1:
        raise InputError(f"keep_rate must be above 0 and at most 1, not {keep_rate}")
    # A product that misses a half by float error counts as that half.
    return {
        name: max(1, int(round(keep_rate * units, 6) + 0.5))
        for name, units in cuts.groups.items()
    }


def extract(params: Params, cuts: Cuts, kept: Kept) -> Params:
    """The parameters of the kept units, dense.

    Args:
      params: of the whole model.
      cuts: along which axes it can be cut.
      kept: the units to keep.

    Returns:
      The same tree, each tied axis of length outer * count * inner.
    """

    def cut(leaf: Array, ties: tuple[Tie | None, ...]) -> Array:
        for axis, tie in enumerate(ties):
            if tie is not None:
                units = kept[tie.group]
                leaf = _on_units(leaf, axis, tie, functools.partial(_take, units))
        return leaf

    return _each(params, cuts, cut)


def scatter(small: Tree, cuts: Cuts, kept: Kept, like: Params) -> Tree:
    """A tree of the shapes of the whole model, with ``small`` where the kept units are.

    The inverse of ``extract`` on them, 0 elsewhere.

    Args:
      small: of the kept units.
      cuts: along which axes the model can be cut.
      kept: the units kept.
      like: of the whole model; only shapes are read.
    """
    places = {
        name: jnp.full(cuts.groups[name], units.shape[0], jnp.int32)
        .at[units]
        .set(jnp.arange(units.shape[0], dtype=jnp.int32), unique_indices=True)
        for name, units in kept.items()
    }

    def back(leaf: Array, ties: tuple[Tie | None, ...]) -> Array:
        for axis, tie in enumerate(ties):
            if tie is not None:
                spread = functools.partial(_spread, places[tie.group])
                leaf = _on_units(leaf, axis, tie, spread)
        return leaf

    return jax.tree.map(
        lambda x, whole: x.reshape(whole.shape), _each(small, cuts, back), like
    )


def held(cuts: Cuts, kept: Kept, like: Params) -> Tree:
    """1 for each parameter of the kept units, 0 for the others; float32.

    Args:
      cuts: along which axes the model can be cut.
      kept: the units kept.
      like: of the whole model; only shapes are read.
    """
    marks = {
        name: jnp.zeros(cuts.groups[name], jnp.float32).at[units].set(1.0)
        for name, units in kept.items()
    }

    def mark(leaf: Array, ties: tuple[Tie | None, ...]) -> Array:
        made = jnp.ones(leaf.shape, jnp.float32)
        for axis, tie in enumerate(ties):
            if tie is not None:
                along = jnp.tile(jnp.repeat(marks[tie.group], tie.inner), tie.outer)
                shape = [1] * leaf.ndim
                shape[axis] = leaf.shape[axis]
                made = made * along.reshape(shape)
        return made

    return _each(like, cuts, mark)


def inverse_scale(cuts: Cuts, counts: Sizes) -> Callable[[Params], Params]:
    """Parameters -> the same, what layers read from cut units times units / count.

    An axis that is tied and not the last of its parameter is one that a layer reads.
    For layers with ReLU this is the Scaler of HeteroFL, which divides what the units
    give by their share.

    Args:
      cuts: along which axes the model can be cut.
      counts: units kept of each group.
    """

    def scale(leaf: Array, ties: tuple[Tie | None, ...]) -> Array:
        for tie in ties[:-1]:
            if tie is not None:
                leaf = leaf * (cuts.groups[tie.group] / counts[tie.group])
        return leaf

    return lambda params: _each(params, cuts, scale)


def _each(
    params: Tree, cuts: Cuts, work: Callable[[Array, tuple[Tie | None, ...]], Array]
) -> Tree:
    leaves, structure = jax.tree.flatten(params)
    named = zip(tree.paths(params), leaves, strict=True)
    made = [work(leaf, cuts.ties[path]) for path, leaf in named]
    return jax.tree.unflatten(structure, made)


def _on_units(
    leaf: Array, axis: int, tie: Tie, work: Callable[[Array], Array]
) -> Array:
    """``work`` on the leaf seen as [before, units, behind], for one of its axes."""
    shape = leaf.shape
    units = shape[axis] // (tie.outer * tie.inner)
    before, behind = 1, tie.inner
    for length in shape[:axis]:
        before *= length
    for length in shape[axis + 1 :]:
        behind *= length
    made = work(leaf.reshape(before * tie.outer, units, behind))
    length = tie.outer * made.shape[1] * tie.inner
    return made.reshape(*shape[:axis], length, *shape[axis + 1 :])


def _take(units: Array, x: Array) -> Array:
    return jnp.take(x, units, axis=1, unique_indices=True, mode="clip")


def _spread(places: Array, x: Array) -> Array:
    return jnp.take(x, places, axis=1, mode="fill", fill_value=0)
