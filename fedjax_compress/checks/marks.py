"""Marks on the functions of a part that are checked, so that none is wrapped twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

_MARK = "_checked"
_Part = TypeVar("_Part", bound=tuple)


class _Mark(NamedTuple):
    """On a function that is checked. Copies of it have the mark, but are not ``call``.

    Attributes:
      call: the function.
      plain: what it was made of.
      part: one object for all functions of a part, which are checked together.
    """

    call: Callable
    plain: Callable
    part: object


def marked(made: _Part, given: _Part) -> _Part:
    """The part made of a plain one, with its functions marked."""
    part = object()
    for name, call in functions(made).items():
        setattr(call, _MARK, _Mark(call, getattr(given, name), part))
    return made


def is_whole(given: tuple) -> bool:
    """Whether all functions of the part were checked, together."""
    marks = [_mark_of(function) for function in functions(given).values()]
    return None not in marks and len({id(m.part) for m in marks if m}) == 1


def plain(given: _Part) -> _Part:
    """The part with the functions that those that are checked were made of."""
    changed = {n: m.plain for n, f in functions(given).items() if (m := _mark_of(f))}
    kept: Any = given
    return kept._replace(**changed)


def functions(given: Any) -> dict[str, Callable]:
    """The functions of the part, by name."""
    return {n: f for n, f in given._asdict().items() if callable(f)}


def _mark_of(function: Callable) -> _Mark | None:
    mark = getattr(function, _MARK, None)
    return mark if mark is not None and mark.call is function else None
