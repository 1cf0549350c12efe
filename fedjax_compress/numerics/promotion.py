"""Code of other libraries and of users, traced with the promotion it is written for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import jax


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Traces code of other libraries with the promotion that they are written for.

    Ours promotes nothing silently, and runs where a user has jax refuse that
    (``JAX_NUMPY_DTYPE_PROMOTION=strict``, ``JAX_NUMPY_RANK_PROMOTION=raise``). Some
    optimizers of optax do: adam divides by ``1 - decay ** count`` of an integer.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def spared(function: Callable) -> Callable:
    """The function, traced as written unless it is one of this package."""
    home = str(getattr(function, "__module__", "")).split(".")[0]
    return function if home == __name__.split(".")[0] else as_written()(function)
