"""Parts whose numbers change over rounds: ``sgd(lr=steps((0.1, 0.01), after=50))``.

A float is computed from the number of the round, in one program for all of them. A
whole number, or one that the factory has to know, makes a program of its own for each
of its values, as the options of links do.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import registry, spec
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.numerics import schedules
from fedjax_compress.numerics.schedules import Schedule
from fedjax_compress.typing import Array

Join = Callable[[Callable[[Array], Any]], Any]
"""(number of the round -> part) -> the part for all rounds."""


class Phase(NamedTuple):
    """A part of a run in which no number that needs a program of its own changes.

    Attributes:
      after: rounds finished before it begins.
      part: what the specification describes from then on.
    """

    after: int
    part: Any


def is_known(value: Any) -> bool:
    """Whether an option is known, and not computed from the number of the round."""
    return not isinstance(value, jax.Array)


def value_at(schedule: Schedule, number: Array) -> Array:
    """The value in round ``number`` (0-based), float32."""
    begun = jnp.asarray(np.asarray(schedule.after, np.int32)) <= number
    place = jnp.sum(begun.astype(jnp.int32)) - 1
    return jnp.asarray(np.asarray(schedule.values, np.float32))[place]


_joins: dict[str, Join] = {}


def register(kind: str, join: Join) -> None:
    """Says that numbers of a kind's parts may change over rounds.

    Args:
      kind: of the parts.
      join: makes a part for all rounds of one for each.
    """
    _joins[kind] = join
    registry.build_by(kind, functools.partial(_build, kind))


def check(kind: str, text: str) -> None:
    """Checks names, types and schedules in a specification, building nothing.

    Raises:
      SpecError: as ``registry.check_spec``.
    """
    entry, call, found = _read(kind, text)
    _bound(entry, call, text, found, 0)


def phases(kind: str, text: str, *context: Any) -> list[Phase]:
    """What a specification describes, phase by phase; mostly one.

    Args:
      kind: of the part.
      text: its specification.
      context: what its factory gets besides options.

    Raises:
      SpecError: as ``registry.build``, for any round.
    """
    entry, call, found = _read(kind, text)
    if not found:
        return [Phase(0, registry.build_call(entry, call, text, *context))]
    changes = sorted(
        {after for schedule, _ in found.values() for after in schedule.after}
    )
    given = {after: _bound(entry, call, text, found, after) for after in changes}
    for options in given.values():
        _made(entry, call, text, context, options)
    floats = {name: s for name, (s, whole) in found.items() if not whole}

    def make(number: Array, options: dict[str, Any]) -> Any:
        traced = {name: value_at(s, number) for name, s in floats.items()}
        return entry.factory(*context, **options | traced)

    if not _can_trace(lambda number: make(number, given[0])):
        floats = {}
    fixed = {0} | {a for n, (s, _) in found.items() if n not in floats for a in s.after}
    made = []
    for after in sorted(fixed):
        options = given[after]
        if floats:
            part = _joins[kind](functools.partial(make, options=options))
        else:
            part = _made(entry, call, text, context, options)
        made.append(Phase(after, part))
    return made


def _build(kind: str, text: str, *context: Any) -> Any:
    """What ``registry.build`` gives: one part for all rounds."""
    found = phases(kind, text, *context)
    if len(found) > 1:
        reason = (
            f"{text} changes a number that needs a program of its own for each of its "
            "values, which only a run can do; let other numbers change"
        )
        raise SpecError(reason, text, 0)
    return found[0].part


def _read(
    kind: str, text: str
) -> tuple[registry.Entry, spec.Call, dict[str, tuple[Schedule, bool]]]:
    """The entry, its call, and the schedules in it by option, with whether whole."""
    entry, call = registry.only_call(kind, text)
    found: dict[str, tuple[Schedule, bool]] = {}
    names = [option.name for option in entry.options()]

    def collect(place: schedules.Place) -> Any:
        found[place.option] = place.read(text), place.whole
        return place.value

    schedules.in_call(call, entry, text, collect)
    named = tuple(zip(names, call.args, strict=False)) + call.kwargs
    extra = call.args[len(names) :]
    return entry, dataclasses.replace(call, args=extra, kwargs=named), found


def _bound(
    entry: registry.Entry,
    call: spec.Call,
    text: str,
    found: dict[str, tuple[Schedule, bool]],
    after: int,
) -> dict[str, Any]:
    """The options as they are after so many rounds."""
    now = {name: s.at(after, whole) for name, (s, whole) in found.items()}
    kwargs = tuple((name, now.get(name, value)) for name, value in call.kwargs)
    return registry.bind(entry, dataclasses.replace(call, kwargs=kwargs), text)


def _made(
    entry: registry.Entry,
    call: spec.Call,
    text: str,
    context: tuple,
    options: dict[str, Any],
) -> Any:
    try:
        return entry.factory(*context, **options)
    except SpecError:
        raise
    except InputError as error:
        raise SpecError(f"{call.name}: {error}", text, call.position) from None


def _can_trace(make: Callable[[Array], Any]) -> bool:
    """Whether a factory works on numbers that are not known yet."""
    try:
        number = jax.ShapeDtypeStruct((), jnp.int32)
        jax.eval_shape(lambda number: (make(number), number)[1], number)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return False
    return True
