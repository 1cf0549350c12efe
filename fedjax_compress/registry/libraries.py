"""Functions of other libraries, found by a name that a user wrote."""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.registry import nearest

RATE = "learning_rate"
"""What optax calls the option that is ``lr`` here."""


def optimizer(module: ModuleType, name: str, lr: float, options: dict[str, Any]) -> Any:
    """``module.name(learning_rate=lr, **options)``, which moves by gradients alone.

    Args:
      module: optax.
      name: a function of it that takes a learning rate.
      lr: the learning rate.
      options: further arguments of the function, by name.

    Raises:
      InputError: no such function or option, an option that it refuses or needs and
        does not get, the learning rate once more under its other name, or an optimizer
        that needs more than gradients (a line search, gradients of each example). Its
        ``init`` raises one for an option that it refuses only when it runs.
    """
    if RATE in options:
        raise InputError(f"lr and {RATE} are one option, given twice; leave {RATE} out")
    made = call_by_name(module, name, RATE, options | {RATE: lr})
    like = {"kernel": _leaf(2, 3), "bias": _leaf(3)}

    def step(params: Any) -> Any:
        with as_written():
            return made.update(params, made.init(params), params)

    try:
        jax.eval_shape(step, like)
    except jax.errors.ConcretizationTypeError:
        raise  # of a number that is not known yet
    except Exception as error:
        raise InputError(
            f"{module.__name__}.{name} needs more than gradients, which is all that an "
            f"optimizer gets here ({_reason(error)}); take another, such as sgd or adam"
        ) from error

    @functools.cache
    def lower() -> None:
        try:
            jax.jit(step).lower(like)
        except Exception as error:
            called = f"{module.__name__}.{name}"
            raise InputError(f"{called}: {_reason(error)}") from error

    def init(params: Any) -> Any:
        if not any(isinstance(x, jax.Array) for x in (lr, *options.values())):
            lower()  # starts devices, which have to be in use by now
        return made.init(params)

    return made._replace(init=init)


def _leaf(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def call_by_name(
    module: ModuleType, name: str, needs: str, options: dict[str, Any]
) -> Any:
    """``module.name(**options)`` for a function that has the argument ``needs``.

    Raises:
      InputError: the module has no such function, or it lacks one of the options, needs
        another, or refuses a value.
    """
    takes = _arguments(module, name)
    if needs not in takes:
        names = (n for n in dir(module) if not n.startswith("_"))
        known = [n for n in names if needs in _arguments(module, n)]
        hint = nearest(name, known)
        raise InputError(f"{module.__name__} has no {name!r} with a {needs}; {hint}")
    called = f"{module.__name__}.{name}"
    for option in options:
        if option not in takes:
            hint = nearest(option, list(takes))
            raise InputError(f"{called} has no option {option!r}; {hint}")
    if missing := [n for n, p in takes.items() if _required(p) and n not in options]:
        raise InputError(f"{called} needs {', '.join(missing)} as well")
    try:
        return getattr(module, name)(**options)
    except jax.errors.ConcretizationTypeError:
        raise  # of a number that is not known yet
    except Exception as error:
        raise InputError(f"{called}: {_reason(error)}") from error


def takes_key(module: ModuleType, name: str) -> bool:
    """Whether a function draws with a key that it is given."""
    return "key" in _arguments(module, name)


def _required(parameter: inspect.Parameter) -> bool:
    named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return named and parameter.default is parameter.empty


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _arguments(module: ModuleType, name: str) -> dict[str, inspect.Parameter]:
    factory = getattr(module, name, None)
    if not inspect.isfunction(factory):
        return {}
    return dict(inspect.signature(factory).parameters)
