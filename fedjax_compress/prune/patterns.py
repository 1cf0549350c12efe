"""Patterns: which elements of a tensor are pruned together.

A tensor [..., inputs, outputs], as our kernels are, is seen as a matrix W[row, column]
with a row for each output and a column for each of the fan-in numbers that it reads. An
array of units stands as the kernels do: inputs first, outputs last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.numerics import ranking
from fedjax_compress.registry import register, register_component
from fedjax_compress.typing import Array, Params, Tree

Shape = tuple[int, ...]
_WIDEST = 64
"""Elements in a group of n_of_m; each is compared with every other of its group."""


class Pattern(NamedTuple):
    """A partition of the elements of a tensor into units.

    Invariant: each element belongs to exactly one unit, and no unit is empty.

    Attributes:
      units: shape of a tensor -> shape of the array of its units.
      total: values of the elements [shape] -> their sums over each unit [units].
      sizes: shape of a tensor -> elements of each unit, int32 [units].
      spread: (mask of the units, bool [units]; shape of the tensor) -> mask of its
        elements, bool [shape].
      choose: scores [units] -> mask of the units that stay, bool [units], for a
        pattern that says itself how many these are; None if any number can stay.
    """

    units: Callable[[Shape], Shape]
    total: Callable[[Array], Array]
    sizes: Callable[[Shape], Array]
    spread: Callable[[Array, Shape], Array]
    choose: Callable[[Array], Array] | None = None


register_component(Pattern, "pattern")


def prunable(params: Params) -> Tree:
    """A tree of Python bools: whether a leaf can be pruned.

    Those of rank 2 or more can; biases and the scales of norms never.
    """
    return jax.tree.map(lambda p: len(p.shape) >= 2 and 0 not in p.shape, params)


def part(values: Tree, chosen: Tree) -> Tree:
    """The tree with None in place of every leaf that is not chosen.

    Scores and masks are trees of this form; to JAX, None is a tree without leaves.

    Args:
      values: a tree of arrays.
      chosen: a tree of Python bools, as from ``prunable``.
    """
    return jax.tree.map(lambda x, c: x if c else None, values, chosen)


@register("pattern")
def unstructured() -> Pattern:
    """Each element by itself. Units: the shape of the tensor."""
    return Pattern(
        units=lambda shape: shape,
        total=lambda values: values,
        sizes=lambda shape: jnp.ones(shape, jnp.int32),
        spread=lambda mask, shape: mask,
    )


@register("pattern")
def row() -> Pattern:
    """A row of W: one output, with all that it reads. Units: [outputs].

    Reference: Lin et al. 2022 (Federated Pruning), whole row.
    Deviation: the paper does not say which axis is a row.
    """
    return _tiles(_matrix, lambda view: (None, 1))


@register("pattern")
def column() -> Pattern:
    """A column of W: one input, at one place of a kernel. Units: [fan-in].

    Reference: Lin et al. 2022 (Federated Pruning), whole column.
    Deviation: the paper does not say which axis is a column.
    """
    return _tiles(_matrix, lambda view: (1, None))


@register("pattern")
def half_row() -> Pattern:
    """A row of W in one half of its columns. Units: [2, outputs].

    Of an odd number of columns, the first half has one more.

    Reference: Lin et al. 2022 (Federated Pruning), half row.
    Deviation: as for ``row``.
    """
    return _tiles(_matrix, lambda view: (-(-view[0] // 2), 1))


@register("pattern")
def half_column() -> Pattern:
    """A column of W in one half of its rows: W = [W1; W2]. Units: [fan-in, 2].

    Of an odd number of rows, the first half has one more.

    Reference: Lin et al. 2022 (Federated Pruning), half column.
    Deviation: as for ``column``.
    """
    return _tiles(_matrix, lambda view: (1, -(-view[1] // 2)))


@register("pattern")
def block(rows: int, columns: int) -> Pattern:
    """A tile of W. Units: [ceil(fan-in / columns), ceil(outputs / rows)].

    Tiles at the end of an axis are smaller where it is not a multiple.

    Args:
      rows: outputs in a tile, at least 1.
      columns: inputs in a tile, at least 1.

    Raises:
      InputError: a number below 1.
    """
    if min(rows, columns) < 1:
        raise InputError(f"rows and columns must be at least 1, not {rows}, {columns}")
    return _tiles(_matrix, lambda view: (columns, rows))


@register("pattern")
def channel() -> Pattern:
    """One input channel: all places of a kernel that read it. Units: [inputs].

    For a matrix the same as ``column``.
    """
    return _tiles(_channels, lambda view: (None, 1, None))


@register("pattern")
def n_of_m(n: int = 2, m: int = 4) -> Pattern:
    """Exactly n kept of every m elements that follow each other in a row of W.

    Units are the elements, as in ``unstructured``. The last group of a row, of c < m
    elements, keeps ceil(c n / m). So the sparsity is fixed, 1 - n / m.

    Args:
      n: kept in each group, 1 to m.
      m: length of a group, 1 to 64.

    Raises:
      InputError: a number out of range.

    Reference: Mishra et al. 2021 (Accelerating Sparse Deep Neural Networks), where n
    is 2 and m is 4.
    """
    if not 1 <= n <= m <= _WIDEST:
        raise InputError(f"n_of_m needs 1 <= n <= m <= {_WIDEST}, not n={n}, m={m}")

    def choose(scores: Array) -> Array:
        fan_in, outputs = _matrix(scores.shape)
        groups = -(-fan_in // m)
        values = ranking.magnitudes(scores).reshape(fan_in, outputs)
        # Filling loses against everything: magnitudes are never negative.
        filling = ((0, groups * m - fan_in), (0, 0))
        values = jnp.pad(values, filling, constant_values=-1)
        values = values.reshape(groups, m, outputs)
        index = jnp.arange(m)[None, :, None]
        ahead = jnp.zeros(values.shape, jnp.int32)
        for j in range(m):
            other = values[:, j : j + 1]
            before = (other > values) | ((other == values) & (j < index))
            ahead += before.astype(jnp.int32)
        quotas = -(-_lengths(fan_in, m) * n // m)
        kept = ahead < quotas[:, None, None]
        return kept.reshape(groups * m, outputs)[:fan_in].reshape(scores.shape)

    return unstructured()._replace(choose=choose)


def _matrix(shape: Shape) -> Shape:
    """The shape of the tensor as [fan-in, outputs]."""
    return math.prod(shape[:-1]), math.prod(shape[-1:])


def _channels(shape: Shape) -> Shape:
    """The shape of the tensor as [places, inputs, outputs]."""
    return math.prod(shape[:-2]), math.prod(shape[-2:-1]), math.prod(shape[-1:])


def _lengths(length: int, tile: int) -> Array:
    """Elements of an axis in each of its tiles, int32."""
    start = jnp.arange(-(-length // tile), dtype=jnp.int32) * tile
    return jnp.minimum(length - start, tile)


def _tiles(
    view: Callable[[Shape], Shape], tile: Callable[[Shape], tuple[int | None, ...]]
) -> Pattern:
    """Units are tiles of a view of the tensor.

    Args:
      view: shape of the tensor -> the shape as which it is seen.
      tile: that shape -> shape of a tile; None for a whole axis, which then is no axis
        of the units.
    """

    def grid(shape: Shape) -> list[tuple[int, int]]:
        """(tiles, elements of a tile) along each axis of the view."""
        seen = view(shape)
        pairs = zip(seen, tile(seen), strict=True)
        lengths = [(n, n if t is None else min(n, t)) for n, t in pairs]
        return [(-(-n // t), t) for n, t in lengths]

    def units(shape: Shape) -> Shape:
        pairs = zip(grid(shape), tile(view(shape)), strict=True)
        return tuple(number for (number, _), t in pairs if t is not None)

    def total(values: Array) -> Array:
        shape, seen, tiles = values.shape, view(values.shape), grid(values.shape)
        filling = [(0, g * t - n) for (g, t), n in zip(tiles, seen, strict=True)]
        values = jnp.pad(values.reshape(seen), filling)
        values = values.reshape([n for pair in tiles for n in pair])
        inner = tuple(range(1, values.ndim, 2))
        return jnp.sum(values, axis=inner).reshape(units(shape))

    def sizes(shape: Shape) -> Array:
        found = jnp.ones((), jnp.int32)
        for n, (_, t) in zip(view(shape), grid(shape), strict=True):
            found = jnp.multiply.outer(found, _lengths(n, t))
        return found.reshape(units(shape))

    def spread(mask: Array, shape: Shape) -> Array:
        seen, tiles = view(shape), grid(shape)
        mask = mask.reshape([n for number, _ in tiles for n in (number, 1)])
        mask = jnp.broadcast_to(mask, [n for pair in tiles for n in pair])
        mask = mask.reshape([number * t for number, t in tiles])
        return mask[tuple(slice(n) for n in seen)].reshape(shape)

    return Pattern(units, total, sizes, spread)
