"""The majority vote of signs."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.aggregate.mean import Mean, mean
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Aggregator, Tree


@registry.register("aggregate")
def majority(
    step: float = 1.0, weight: Literal["uniform", "examples"] = "uniform"
) -> Aggregator:
    """The sign that most clients' updates have, element by element, times a step.

    step * sign(sum_k w_k sign(u_k)), with w_k = 1, or the number of examples. A zero
    has no vote, and a tie gives 0. With ``--uplink sign(scale=one)`` this is signSGD
    with majority vote. With a tree of masks as weight, those vote that hold the
    coordinate.

    Args:
      step: size of every element of the result; the server's learning rate multiplies
        it.
      weight: ``uniform``, a vote each; or ``examples``, votes by size.

    Raises:
      InputError: step is not above 0, or not finite.

    Reference: Bernstein et al. 2018, algorithm 3 (majority vote).
    Deviation: with an even number of clients the paper leaves ties open.
    """
    if not 0 < step < math.inf:
        raise InputError(f"step must be finite and above 0, not {step}")
    votes = mean(weight)

    def lift(update: Tree, size: Tree) -> Mean:
        return votes.lift(jax.tree.map(jnp.sign, update), size)

    def finish(acc: Mean) -> Tree:
        return jax.tree.map(lambda total: step * jnp.sign(total), acc.total)

    return Aggregator(lift, finish)
