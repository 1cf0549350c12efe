"""Functions of other libraries, called by a name that a user wrote."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest


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
