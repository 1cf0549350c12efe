"""Functions of other libraries: found by a name that a user wrote, run as written."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax

from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Traces code of other libraries with the promotion that they are written for.

    Ours promotes nothing silently, and runs where a user has jax refuse that
    (``JAX_NUMPY_DTYPE_PROMOTION=strict``, ``JAX_NUMPY_RANK_PROMOTION=raise``). Some
    optimizers of optax do: adam divides by ``1 - decay ** count`` of an integer.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def call_by_name(
    module: ModuleType, name: str, needs: str, options: dict[str, Any]
) -> Any:
    """``module.name(**options)`` for a function that has the argument ``needs``.

    Raises:
      InputError: the module has no such function, or it lacks one of the options.
    """
    takes = _arguments(module, name)
    if needs not in takes:
        names = (n for n in dir(module) if not n.startswith("_"))
        known = [n for n in names if needs in _arguments(module, n)]
        hint = nearest(name, known)
        raise InputError(f"{module.__name__} has no {name!r} with a {needs}; {hint}")
    for option in options:
        if option not in takes:
            hint = nearest(option, takes)
            raise InputError(
                f"{module.__name__}.{name} has no option {option!r}; {hint}"
            )
    return getattr(module, name)(**options)


def _arguments(module: ModuleType, name: str) -> list[str]:
    factory = getattr(module, name, None)
    return (
        list(inspect.signature(factory).parameters)
        if inspect.isfunction(factory)
        else []
    )
