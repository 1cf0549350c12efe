"""Ramps: the sparsity of each round, up to its target.

A ramp knows its target rather than giving a fraction of it: equal ratios of density
depend on where they end, and a text such as ``cubic(0.5, begin=0, end=300)`` then says
all there is to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError
from fedjax_compress.registry import register, register_component
from fedjax_compress.typing import Array

_MOST_STEPS = 10_000


class Ramp(NamedTuple):
    """Sparsity over rounds; it never falls.

    Attributes:
      at: rounds finished before, int32 and possibly traced -> sparsity, float32.
      target: the last sparsity.
      end: from so many finished rounds on, the target holds.
    """

    at: Callable[[int | Array], Array]
    target: float
    end: int


register_component(Ramp, "sparsity")


@register("sparsity")
def one_shot(target: float, at: int = 0) -> Ramp:
    """All at once: 0 before ``at`` finished rounds, the target from then on.

    Args:
      target: share to prune, in [0, 1).
      at: rounds finished before, at least 0.

    Raises:
      InputError: a number out of range.
    """
    _check_target(target)
    _check_round("at", at)

    def sparsity(finished: int | Array) -> Array:
        return jnp.where(jnp.asarray(finished) >= at, jnp.float32(target), 0)

    return Ramp(sparsity, target, at)


@register("sparsity")
def iterative(target: float, steps: int, every: int) -> Ramp:
    """Steps of equal ratio: each keeps the same share of what is left.

    1 - (1 - target)^(i / steps), with i = min(floor(r / every), steps) after r rounds:
    the first step comes after ``every`` rounds.

    Args:
      target: share to prune in the end, in [0, 1).
      steps: number of steps, 1 to 10000.
      every: rounds between two steps, at least 1.

    Raises:
      InputError: a number out of range.

    Reference: Frankle and Carbin 2019, section 1 (iterative pruning); the iterative
    baseline of Jiang et al. 2022 (PruneFL) has 20 such steps.
    """
    _check_target(target)
    if not 1 <= steps <= _MOST_STEPS:
        raise InputError(f"steps must be 1 to {_MOST_STEPS}, not {steps}")
    if every < 1:
        raise InputError(f"every must be at least 1, not {every}")
    table = 1 - (1 - target) ** (np.arange(steps + 1) / steps)
    table[-1] = target

    def sparsity(finished: int | Array) -> Array:
        step = jnp.minimum(jnp.asarray(finished) // every, steps)
        return jnp.asarray(table, jnp.float32)[step]

    return Ramp(sparsity, target, steps * every)


@register("sparsity")
def cubic(target: float, begin: int, end: int) -> Ramp:
    """Fast at first: target (1 - (1 - p)^3), p = (r - begin) / (end - begin).

    With r finished rounds and p clipped to [0, 1].

    Args:
      target: share to prune in the end, in [0, 1).
      begin: rounds finished before it rises, at least 0.
      end: rounds finished when it reaches the target, above begin.

    Raises:
      InputError: a number out of range.

    Reference: Zhu and Gupta 2017, equation 1, with initial sparsity 0.
    """
    _check_target(target)
    _check_round("begin", begin)
    if end <= begin:
        raise InputError(f"end must be above begin, not {end} after {begin}")

    def sparsity(finished: int | Array) -> Array:
        passed = (jnp.asarray(finished) - begin).astype(jnp.float32) / (end - begin)
        left = 1 - jnp.clip(passed, 0, 1)
        return jnp.float32(target) * (1 - left * left * left)

    return Ramp(sparsity, target, end)


def _check_target(target: float) -> None:
    if not 0 <= target < 1:
        raise InputError(f"target must be in [0, 1), not {target}")


def _check_round(name: str, value: int) -> None:
    if value < 0:
        raise InputError(f"{name} must be at least 0, not {value}")
