"""Components from specifications: names looked up, options bound, factories called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fedjax_compress import spec
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.registry._entries import Entry, entries, lookup
from fedjax_compress.registry.conversion import (
    convert,
    inner_kinds,
    nearest,
    register_type,
)

_whole: dict[str, Callable[..., Any]] = {}


def register_component(annotation: Any, kind: str) -> None:
    """Says that an option of this type is one component of a kind, by its name."""

    def builder(pipe: spec.Pipe, text: str) -> Any:
        return build_call(_only_call(pipe, kind, text), pipe.calls[0], text)

    register_type(annotation, builder, kind)


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
