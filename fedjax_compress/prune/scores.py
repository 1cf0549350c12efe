"""Scores: how much a unit matters; the lowest are pruned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.checks.returned import floats, within
from fedjax_compress.errors import InputError
from fedjax_compress.prune.patterns import Pattern
from fedjax_compress.registry import register, register_component
from fedjax_compress.typing import Array, Tree

Norm = Literal["l1", "l2"]


class Score(NamedTuple):
    """The score of a unit is ``root`` of the mean of ``elements`` over it.

    The mean, not the sum, so that units of different sizes compare.

    Attributes:
      elements: (weights, gradients, accumulated squared gradients), arrays of one
        shape or None where not given -> float32 of that shape, not negative.
      root: of the mean, float32 [units].
    """

    elements: Callable[[Array, Array | None, Array | None], Array]
    root: Callable[[Array], Array]


register_component(Score, "score")


@register("score")
def weight(norm: Norm = "l1") -> Score:
    """Size of the weights: mean |w| (l1) or sqrt(mean w^2) (l2).

    Args:
      norm: l1 or l2. In l2, magnitudes below 1e-19 count as 0.

    Reference: Lin et al. 2022 (Federated Pruning), weight magnitude.
    """
    return _normed(norm, lambda w, g, a: w)


@register("score")
def gradient(norm: Norm = "l1") -> Score:
    """Size of the gradients, or of their momentum: mean |g| or sqrt(mean g^2).

    At a server the gradient is the averaged update. A unit that is not trained has
    none and cannot come back.

    Args:
      norm: as for ``weight``.

    Reference: Lin et al. 2022 (Federated Pruning), gradient or momentum.
    """
    return _normed(norm, lambda w, g, a: _given(g, "gradients"))


@register("score")
def weight_gradient(norm: Norm = "l1") -> Score:
    """Size of weight times gradient: mean |w g| or sqrt(mean (w g)^2).

    Args:
      norm: as for ``weight``.

    Reference: Lin et al. 2022 (Federated Pruning), weight times gradient; for single
    elements and l1, the connection sensitivity of Lee et al. 2019 (SNIP).
    """
    return _normed(norm, lambda w, g, a: w * _given(g, "gradients"))


@register("score")
def accumulated_gradient() -> Score:
    """Squared gradients, accumulated by the caller over rounds: their mean.

    Reference: Jiang et al. 2022 (PruneFL), the importance g_j^2 of a parameter.
    """

    def elements(w: Array, g: Array | None, a: Array | None) -> Array:
        return _given(a, "accumulated squared gradients")

    return Score(elements, lambda mean: mean)


def unit_scores(
    score: Score,
    pattern: Pattern,
    weights: Tree,
    gradients: Tree | None = None,
    accumulated: Tree | None = None,
) -> Tree:
    """The score of every unit, a tree of float32 [units].

    Args:
      score: what to score by.
      pattern: the units.
      weights: the prunable part of the parameters, as from ``part``.
      gradients: like weights, or None if the score does not look at them.
      accumulated: sums of squared gradients like weights, or None.

    Raises:
      InputError: the score looks at what is not given, or gives other shapes.
    """
    structure: Any = jax.tree.structure(weights)

    def leaves(values: Tree | None) -> list[Array | None]:
        if values is None:
            return [None] * structure.num_leaves
        found = structure.flatten_up_to(values)
        return [v.astype(jnp.float32) for v in found]

    def of_leaf(w: Any, g: Array | None, a: Array | None) -> Array:
        wanted = "one float for each weight"
        with within("the score's elements"):
            found = score.elements(w, g, a)
        found = floats("the score's elements", found, w.shape, wanted)
        size = pattern.sizes(found.shape).astype(jnp.float32)
        mean = pattern.total(found) / size
        root, wanted = score.root(mean), "one float for each unit"
        return floats("the score's root", root, mean.shape, wanted)

    values = zip(leaves(weights), leaves(gradients), leaves(accumulated), strict=True)
    return jax.tree.unflatten(structure, [of_leaf(*each) for each in values])


def _given(values: Array | None, what: str) -> Array:
    if values is None:
        raise InputError(f"this score needs {what}, which are not given")
    return values


def _normed(
    norm: Norm, values: Callable[[Array, Array | None, Array | None], Array]
) -> Score:
    if norm == "l1":
        return Score(lambda *given: jnp.abs(values(*given)), lambda mean: mean)
    if norm == "l2":
        return Score(lambda *given: jnp.square(values(*given)), jnp.sqrt)
    raise InputError(f"norm must be l1 or l2, not {norm!r}")
