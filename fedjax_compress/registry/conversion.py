"""What a specification writes, as the type that an option has."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from fedjax_compress import spec
from fedjax_compress.errors import SpecError

_builders: dict[Any, Callable[[spec.Pipe, str], Any]] = {}
_pipe_kinds: dict[Any, tuple[str, ...]] = {}
_texts: dict[Any, str] = {}


def register_type(
    annotation: Any, builder: Callable[[spec.Pipe, str], Any], *kinds: str
) -> None:
    """Says how an option of this type is built from the pipe written for it.

    The kinds are where the names in such a pipe are looked up.
    """
    _builders[annotation] = builder
    _pipe_kinds[annotation] = kinds


def register_text(
    annotation: Any, builder: Callable[[spec.Pipe, str], str], kind: str
) -> None:
    """Says that an option of this type is the SPEC of one component, as text.

    It may be written in quotes, too.
    """
    register_type(annotation, builder, kind)
    _texts[annotation] = f"a {kind}"


def inner_kinds(annotation: Any) -> tuple[str, ...]:
    """Where names in a pipe for an option of this type are looked up, if it has any."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(filter(None, map(inner_kinds, typing.get_args(annotation))), ())
    return _pipe_kinds.get(annotation, ())


def nearest(name: str, choices: list[str]) -> str:
    """A hint that names the closest choice, or all of them."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(sorted(choices))}"


def convert(wanted: Any, value: Any, what: str, text: str, position: int) -> Any:
    """``value`` as read by ``spec.parse``, checked against and cast to a type."""
    at = value.position if isinstance(value, spec.Pipe) else position
    reason = f"{what} must be {type_name(wanted)}, not {_show(value)}"
    if wanted is str and isinstance(value, spec.Pipe):
        reason = f"{what} must be a text; put it in quotes: {_show(value)}"
    problem = SpecError(reason, text, at)
    if wanted in _builders:
        if wanted in _texts and isinstance(value, str):
            value, text = spec.parse(value), value
        if not isinstance(value, spec.Pipe) or (
            wanted in _texts and len(value.calls) > 1
        ):
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
    if wanted in _texts:
        return _texts[wanted]
    if typing.get_origin(wanted) is Literal:
        return " or ".join(str(c) for c in typing.get_args(wanted))
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return " or ".join(type_name(c) for c in typing.get_args(wanted))
    if typing.get_origin(wanted) is tuple:
        return f"a list of {type_name(typing.get_args(wanted)[0])}"
    return getattr(wanted, "__name__", str(wanted))
