"""What figures are made of: weighed sums over rows, and their quotient."""

from __future__ import annotations

import jax.numpy as jnp

from fedjax_compress.models.losses import weight_of
from fedjax_compress.typing import Array, Columns, Tree


def weighed(found: Array, columns: Columns, number: Array | None = None) -> Tree:
    """A sum of each row and what it is divided by."""
    weight = weight_of(columns)
    return [weight * found, weight if number is None else weight * number]


def ratio(sums: Tree) -> Array:
    """The first sum divided by the second; 0 where that is."""
    return divided(*sums)


def divided(a: Array, b: Array) -> Array:
    """a / b, 0 where b is."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)
