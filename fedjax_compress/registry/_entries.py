"""Names to factories, with their options, types and one-line descriptions.

A factory registers itself with ``@register("stage")``. Its docstring's first line is
the description, its signature gives the options. The first ``context`` parameters
are supplied by the caller of ``build`` (a model's task, say), the others by the
specification text.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from typing import Any

from fedjax_compress import spec
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.registry.conversion import nearest, type_name

_PACKAGE = __name__.split(".")[0]

_ROOMS = {
    "data": "data",
    "public": "data",
    "partition": "clients",
    "sampling": "clients",
    "model": "models",
    "augment": "models",
    "qat": "quantize",
    "local": "local",
    "stage": "compress",
    "compressor": "compress",
    "schedule": "numerics",
    "pattern": "prune",
    "score": "prune",
    "sparsity": "prune",
    "selector": "submodel",
    "aggregate": "aggregate",
    "server": "server",
    "algorithm": "algorithms",
    "clock": "clock",
}
"""The room whose modules register the built-in entries of a kind."""

_tables: dict[str, dict[str, Entry]] = {}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a factory: its name, type, and default (``REQUIRED`` if none)."""

    name: str
    type: Any
    default: Any

    def __str__(self) -> str:
        kind = type_name(self.type)
        if self.default is inspect.Parameter.empty:
            return f"{self.name}: {kind}"
        return f"{self.name}: {kind} = {spec.format_value(self.default)}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered factory."""

    kind: str
    name: str
    factory: Callable[..., Any]
    context: int

    @property
    def is_ours(self) -> bool:
        """Whether this package has registered it."""
        return self.factory.__module__.split(".")[0] == _PACKAGE

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n")[0]

    def options(self) -> list[Option]:
        """What the specification text may set, in order."""
        hints = typing.get_type_hints(self.factory)
        named = list(inspect.signature(self.factory).parameters.values())
        return [
            Option(p.name, hints.get(p.name, Any), p.default)
            for p in named[self.context :]
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]

    def rest(self) -> Any:
        """The type of further named options (``**options``), or None."""
        hints = typing.get_type_hints(self.factory)
        for p in inspect.signature(self.factory).parameters.values():
            if p.kind is p.VAR_KEYWORD:
                return hints.get(p.name, Any)
        return None


def register(kind: str, name: str | None = None, *, context: int = 0) -> Callable:
    """Decorator: enters a factory under ``kind`` and its own (or the given) name.

    The same name from the same module or file takes the place of the old one, so that a
    cell of a notebook, or a module that is loaded again, can be run twice, and a script
    can name itself among its imports.

    Raises:
      InputError: another module has registered that name.
    """

    def enter(factory: Callable[..., Any]) -> Callable[..., Any]:
        called = name or factory.__name__
        table = _tables.setdefault(kind, {})
        if called in table and not _same_home(table[called].factory, factory):
            home = table[called].factory.__module__
            raise InputError(
                f"{kind} {called!r} is registered already, by {home}; take another name"
            )
        table[called] = Entry(kind, called, factory, context)
        return factory

    return enter


def _same_home(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two factories are of one module, or of one file under two names."""
    if one.__module__ == other.__module__:
        return True
    codes = [getattr(inspect.unwrap(f), "__code__", None) for f in (one, other)]
    files = {None if code is None else code.co_filename for code in codes}
    return len(files) == 1 and None not in files


def entries(kind: str) -> dict[str, Entry]:
    """All entries of a kind, by name, sorted; imports the room they live in, whole."""
    if kind in _ROOMS:
        _fill(_ROOMS[kind])
    return dict(sorted(_tables.get(kind, {}).items()))


@functools.cache
def _fill(room: str) -> None:
    """Imports every module of a room, so that a new file is enough to add an entry."""
    package = importlib.import_module(f"{_PACKAGE}.{room}")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def foreign() -> set[Entry]:
    """What has been registered so far from outside this package."""
    return {e for table in _tables.values() for e in table.values() if not e.is_ours}


def kinds() -> list[str]:
    """All kinds that hold entries, in the order of a round."""
    return [*_ROOMS, *sorted(set(_tables) - set(_ROOMS))]


def lookup(call: spec.Call, *kinds: str, text: str = "") -> Entry:
    """The entry that a call names, in the first of the kinds that has it.

    Raises:
      SpecError: unknown name, with the nearest known one.
    """
    tables = [entries(kind) for kind in kinds]
    for table in tables:
        if call.name in table:
            return table[call.name]
    choices = [name for table in tables for name in table]
    hint = nearest(call.name, choices)
    raise SpecError(f"unknown {kinds[0]} {call.name!r}; {hint}", text, call.position)
