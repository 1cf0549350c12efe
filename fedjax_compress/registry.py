"""Names to factories, with their options, types and one-line descriptions.

A factory registers itself with ``@register("stage")``. Its docstring's first line is
the description, its signature gives the options. The first ``context`` parameters
are supplied by the caller of ``build`` (a model's task, say), the others by the
specification text.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from fedjax_compress import spec
from fedjax_compress.errors import InputError, SpecError

_ROOMS = {
    "data": "clients",
    "partition": "clients",
    "sampling": "clients",
    "model": "models",
    "augment": "models",
    "qat": "local",
    "local": "local",
    "stage": "compress",
    "compressor": "compress",
    "schedule": "schedules",
    "pattern": "prune",
    "score": "prune",
    "sparsity": "prune",
    "selector": "submodel",
    "aggregate": "aggregate",
    "server": "server",
    "algorithm": "algorithms",
}
"""The room whose import registers the built-in entries of a kind."""

_entries: dict[str, dict[str, Entry]] = {}
_whole: dict[str, Callable[..., Any]] = {}
_builders: dict[Any, Callable[[spec.Pipe, str], Any]] = {}
_pipe_kinds: dict[Any, tuple[str, ...]] = {}


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
        return self.factory.__module__.split(".")[0] == __package__

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

    The same name from the same module takes the place of the old one, so that a cell
    of a notebook, or a module that is loaded again, can be run twice.

    Raises:
      InputError: another module has registered that name.
    """

    def enter(factory: Callable[..., Any]) -> Callable[..., Any]:
        called = name or factory.__name__
        table = _entries.setdefault(kind, {})
        home = table[called].factory.__module__ if called in table else None
        if home not in (None, factory.__module__):
            raise InputError(
                f"{kind} {called!r} is registered already, by {home}; take another name"
            )
        table[called] = Entry(kind, called, factory, context)
        return factory

    return enter


def register_type(
    annotation: Any, builder: Callable[[spec.Pipe, str], Any], *kinds: str
) -> None:
    """Says how an option of this type is built from the pipe written for it.

    The kinds are where the names in such a pipe are looked up.
    """
    _builders[annotation] = builder
    _pipe_kinds[annotation] = kinds


def register_component(annotation: Any, kind: str) -> None:
    """Says that an option of this type is one component of a kind, by its name."""

    def builder(pipe: spec.Pipe, text: str) -> Any:
        return build_call(_only_call(pipe, kind, text), pipe.calls[0], text)

    register_type(annotation, builder, kind)


def inner_kinds(annotation: Any) -> tuple[str, ...]:
    """Where names in a pipe for an option of this type are looked up, if it has any."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(filter(None, map(inner_kinds, typing.get_args(annotation))), ())
    return _pipe_kinds.get(annotation, ())


def entries(kind: str) -> dict[str, Entry]:
    """All entries of a kind, by name, sorted; imports the room they live in."""
    if kind in _ROOMS:
        importlib.import_module(f"{__package__}.{_ROOMS[kind]}")
    return dict(sorted(_entries.get(kind, {}).items()))


def foreign() -> set[Entry]:
    """What has been registered so far from outside this package."""
    return {e for table in _entries.values() for e in table.values() if not e.is_ours}


def kinds() -> list[str]:
    """All kinds that hold entries, in the order of a round."""
    return [*_ROOMS, *sorted(set(_entries) - set(_ROOMS))]


def nearest(name: str, choices: list[str]) -> str:
    """A hint that names the closest choice, or all of them."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(sorted(choices))}"


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


def build(kind: str, text: str, *context: Any) -> Any:
    """Builds the one component that ``text`` describes.

    Raises:
      SpecError: the text does not parse, names something unknown, or gives an
        option that does not exist or has the wrong type or value.
    """
    entries(kind)
    if kind in _whole:
        return _whole[kind](text, *context)
    return build_call(*only_call(kind, text), text, *context)


def build_by(kind: str, builder: Callable[..., Any]) -> None:
    """Says that ``build`` of this kind is ``builder(text, *context)``."""
    _whole[kind] = builder


def only_call(kind: str, text: str) -> tuple[Entry, spec.Call]:
    """What a specification of one component names, and the call.

    Raises:
      SpecError: it does not parse, is a pipe, or names something unknown.
    """
    pipe = spec.parse(text)
    return _only_call(pipe, kind, text), pipe.calls[0]


def check_spec(kind: str, text: str) -> None:
    """Checks names and types in the specification of one component, building nothing.

    Raises:
      SpecError: as ``build``, but for what only the factory knows.
    """
    pipe = spec.parse(text)
    bind(_only_call(pipe, kind, text), pipe.calls[0], text)


def _only_call(pipe: spec.Pipe, kind: str, text: str) -> Entry:
    """What the one call of a pipe names."""
    if len(pipe.calls) > 1:
        position = pipe.calls[1].position
        article = "an" if kind[0] in "aeiou" else "a"
        raise SpecError(f"{article} {kind} is one call, not a pipe", text, position)
    return lookup(pipe.calls[0], kind, text=text)


def build_call(entry: Entry, call: spec.Call, text: str, *context: Any) -> Any:
    """Calls the factory of ``entry`` with the options written in ``call``."""
    given = bind(entry, call, text)
    try:
        return entry.factory(*context, **given)
    except SpecError:
        raise
    except InputError as error:
        raise SpecError(f"{call.name}: {error}", text, call.position) from None


def bind(entry: Entry, call: spec.Call, text: str) -> dict[str, Any]:
    """The options of a call by name, each converted to the type of its parameter."""
    options = {o.name: o for o in entry.options()}
    names = list(options)
    _check_number(call, names, text)
    written = dict(zip(names, call.args, strict=False))
    for name, value in call.kwargs:
        if name not in options and entry.rest() is None:
            hint = nearest(name, names) if names else "it takes none"
            reason = f"{call.name} has no option {name!r}; {hint}"
            raise SpecError(reason, text, call.position)
        if name in written:
            raise SpecError(f"{name} is given twice", text, call.position)
        written[name] = value
    for name, option in options.items():
        if name not in written and option.default is inspect.Parameter.empty:
            reason = f"{call.name} needs {option}, as in {call.name}({name}=...)"
            raise SpecError(reason, text, call.position)
    given = {}
    for name, value in written.items():
        wanted = options[name].type if name in options else entry.rest()
        what = f"{call.name}: {name}"
        given[name] = convert(wanted, value, what, text, call.position)
    return given


def _check_number(call: spec.Call, names: list[str], text: str) -> None:
    if len(call.args) > len(names):
        reason = f"{call.name} takes no options"
        if names:
            most = f"{len(names)} option{'s' * (len(names) > 1)}"
            reason = f"{call.name} takes at most {most}: {', '.join(names)}"
        raise SpecError(reason, text, call.position)


def convert(wanted: Any, value: Any, what: str, text: str, position: int) -> Any:
    """``value`` as read by ``spec.parse``, checked against and cast to a type."""
    at = value.position if isinstance(value, spec.Pipe) else position
    problem = SpecError(
        f"{what} must be {type_name(wanted)}, not {_show(value)}", text, at
    )
    if wanted in _builders:
        if not isinstance(value, spec.Pipe):
            raise problem
        return _builders[wanted](value, text)
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        choices = typing.get_args(wanted)
        made = [choice for choice in choices if choice in _builders]
        if made and isinstance(value, spec.Pipe) and str(value) != "none":
            return _builders[made[0]](value, text)
        for choice in choices:
            try:
                return convert(choice, value, what, text, position)
            except SpecError:
                continue
        raise problem
    if isinstance(value, spec.Pipe):
        call = value.calls[0]
        if len(value.calls) > 1 or call.args or call.kwargs:
            raise problem
        value = call.name
    if typing.get_origin(wanted) is Literal:
        choices = typing.get_args(wanted)
        if value not in choices:
            hint = nearest(str(value), [str(c) for c in choices])
            raise SpecError(f"{what} cannot be {_show(value)}; {hint}", text, at)
        return value
    if typing.get_origin(wanted) is tuple:
        item = typing.get_args(wanted)[0]
        values = value if isinstance(value, tuple) else (value,)
        return tuple(convert(item, v, what, text, position) for v in values)
    return _scalar(wanted, value, problem)


def _scalar(wanted: Any, value: Any, problem: SpecError) -> Any:
    if wanted is Any:
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is type(None) and value == "none":
        return None
    if type(value) is not wanted:
        raise problem
    return value


def _show(value: Any) -> str:
    return f"{str(value)!r}" if isinstance(value, (str, spec.Pipe)) else str(value)


def type_name(wanted: Any) -> str:
    """A type in the words of the command line."""
    if wanted is type(None):
        return "none"
    if typing.get_origin(wanted) is Literal:
        return " or ".join(str(c) for c in typing.get_args(wanted))
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return " or ".join(type_name(c) for c in typing.get_args(wanted))
    if typing.get_origin(wanted) is tuple:
        return f"a list of {type_name(typing.get_args(wanted)[0])}"
    return getattr(wanted, "__name__", str(wanted))


def canonical(kind: str, text: str) -> str:
    """The same specification with every positional option named, evenly spaced."""
    kinds = (kind, "compressor") if kind == "stage" else (kind,)
    return str(_named_pipe(spec.parse(text), kinds, text))


def _named_pipe(pipe: spec.Pipe, kinds: tuple[str, ...], text: str) -> spec.Pipe:
    calls = (_named(lookup(c, *kinds, text=text), c, text) for c in pipe.calls)
    return spec.Pipe(tuple(calls))


def _named(entry: Entry, call: spec.Call, text: str) -> spec.Call:
    types = {o.name: o.type for o in entry.options()}
    _check_number(call, list(types), text)
    written = tuple(zip(types, call.args, strict=False)) + call.kwargs
    named = []
    for name, value in written:
        kinds = inner_kinds(types.get(name, entry.rest()))
        if kinds and isinstance(value, spec.Pipe):
            value = _named_pipe(value, kinds, text)
        named.append((name, value))
    return spec.Call(call.name, (), tuple(named), call.position)
