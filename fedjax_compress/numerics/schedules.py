"""Options that change over rounds: ``top_k(steps((0.25, 0.06), after=10))``.

Sizes of messages are static, so a link's schedule takes few values, and each of them is
a program of its own: a run is a row of phases in which nothing changes. Numbers of the
clients' and the server's steps are computed from the round, see ``by_round``.
"""

from __future__ import annotations

import dataclasses
import itertools
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from fedjax_compress import registry, spec
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.registry import register

KINDS = ("stage", "compressor")
"""Where the names of a compressor's specification are looked up."""
_MOST = 32
_LARGEST = 1e12


class Schedule(NamedTuple):
    """The values of one option.

    Attributes:
      values: one for each phase.
      after: rounds finished before each value holds; the first is 0, and they rise.
      smooth: values between the first and the last are computed, and rounded for an
        option that takes whole numbers.
    """

    values: tuple[int | float, ...]
    after: tuple[int, ...]
    smooth: bool = False

    def at(self, finished: int, whole: bool = False) -> int | float:
        """The value of the round that follows ``finished`` rounds."""
        place = sum(after <= finished for after in self.after) - 1
        value = self.values[place]
        inner = self.smooth and 0 < place < len(self.values) - 1
        return round(value) if inner and whole else value


@register("schedule")
def constant(value: int | float) -> Schedule:
    """The same value in all rounds, as if it were written without a schedule."""
    return Schedule((value,), (0,))


@register("schedule")
def steps(values: tuple[int | float, ...], after: tuple[int, ...]) -> Schedule:
    """Values in turn: the first at once, each next after so many finished rounds.

    ``steps((0.25, 0.0625, 0.01), after=(10, 20))`` is 0.25 in rounds 1 to 10, 0.0625
    in rounds 11 to 20, and 0.01 from round 21 on.

    Args:
      values: 1 to 32 of them; each new one compiles a program, but for floats of a
        local update or a server optimizer.
      after: rounds finished before the second, third, ... value; rising, from 1.

    Raises:
      InputError: their numbers do not fit, or ``after`` does not rise.
    """
    if not 1 <= len(values) <= _MOST:
        raise InputError(f"values must be 1 to {_MOST}, not {len(values)}")
    if len(after) != len(values) - 1:
        raise InputError(
            f"{len(values)} values need {len(values) - 1} numbers in after, one for "
            f"each but the first, not {len(after)}"
        )
    starts = (0, *after)
    if any(b <= a for a, b in zip(starts, after, strict=False)):
        raise InputError(f"after must rise, from 1 on, not {spec.format_value(after)}")
    return Schedule(values, starts)


@register("schedule")
def ramp(
    start: int | float,
    end: int | float,
    rounds: int,
    steps: int = 5,
    kind: Literal["linear", "geometric"] = "linear",
) -> Schedule:
    """From start to end over a number of rounds, in a few steps of like length.

    Value i of ``steps`` is start + (end - start) f, or start (end / start)^f if
    geometric, with f = i / (steps - 1), to 6 digits. It holds from
    floor(f rounds) finished rounds on, so ``end`` holds from round ``rounds`` + 1 on.
    Whole numbers where the option takes nothing else.

    Args:
      start, end: the first and the last value.
      rounds: finished when the last value begins.
      steps: number of values, 2 to 32; as those of ``steps``.
      kind: equal differences, or equal ratios.

    Raises:
      InputError: a number out of range, or ratios of numbers that are not of one sign.
    """
    if not 2 <= steps <= _MOST:
        raise InputError(f"steps must be 2 to {_MOST}, not {steps}")
    if rounds < steps - 1:
        raise InputError(
            f"rounds must be at least {steps - 1} for {steps} steps, not {rounds}"
        )
    if not max(abs(start), abs(end)) <= _LARGEST:
        raise InputError(f"start and end must be at most {_LARGEST:g} in magnitude")
    if kind == "geometric" and not (min(start, end) > 0 or max(start, end) < 0):
        raise InputError(
            f"geometric needs start and end of one sign, not {start} and {end}; "
            "take kind=linear"
        )

    def value(i: int) -> float:
        share = i / (steps - 1)
        if kind == "geometric":
            return float(f"{start * (end / start) ** share:.6g}")
        return float(f"{start + (end - start) * share:.6g}")

    inner = tuple(value(i) for i in range(1, steps - 1))
    after = tuple(i * rounds // (steps - 1) for i in range(steps))
    return Schedule((start, *inner, end), after, smooth=True)


class Place(NamedTuple):
    """Where a schedule is written.

    Attributes:
      call: name of the stage or compressor.
      option: name of its option.
      wanted: type of the option.
      value: the schedule as written.
    """

    call: str
    option: str
    wanted: Any
    value: spec.Pipe

    def read(self, text: str) -> Schedule:
        """The schedule.

        Raises:
          SpecError: it is none.
        """
        call = self.value.calls[0]
        entry = registry.lookup(call, "schedule", text=text)
        found = registry.build_call(entry, call, text)
        if reason := _wrong(found):
            raise SpecError(f"{call.name}: {reason}", text, call.position)
        schedule: Schedule = found
        return schedule

    @property
    def whole(self) -> bool:
        """Whether the option takes whole numbers only."""
        return float not in _flat(self.wanted)


def _wrong(found: Any) -> str:
    """Why it is no schedule; empty if it is one."""
    if not isinstance(found, Schedule):
        return f"it must give a Schedule, not a {type(found).__name__}"
    values, after = found.values, found.after
    numbers = all(isinstance(v, (int, float)) and v == v for v in values)
    if not values or not numbers:
        return f"values must be numbers, at least one, not {values}"
    rising = all(a < b for a, b in itertools.pairwise(after))
    if len(after) != len(values) or after[0] != 0 or not rising:
        return f"after must be {len(values)} rising numbers, the first 0, not {after}"
    return ""


def replace(pipe: spec.Pipe, text: str, change: Callable[[Place], Any]) -> spec.Pipe:
    """The pipe of a compressor with ``change`` of each schedule in its place.

    Args:
      pipe: as read from ``text``.
      text: for error messages.
      change: what to write for a schedule.

    Raises:
      SpecError: a name that nothing has.
    """
    return _in_pipe(pipe, KINDS, text, change)


def _in_pipe(
    pipe: spec.Pipe,
    kinds: tuple[str, ...],
    text: str,
    change: Callable[[Place], Any],
) -> spec.Pipe:
    def new(call: spec.Call, name: str, wanted: Any, value: Any) -> Any:
        if not isinstance(value, spec.Pipe):
            return value
        if inner := registry.inner_kinds(wanted):
            return _in_pipe(value, inner, text, change)
        if _is_schedule(value, wanted):
            return change(Place(call.name, name, wanted, value))
        return value

    calls = []
    for call in pipe.calls:
        entry = registry.lookup(call, *kinds, text=text)
        calls.append(_in_call(call, entry, new))
    return spec.Pipe(tuple(calls))


def in_call(
    call: spec.Call,
    entry: registry.Entry,
    text: str,
    change: Callable[[Place], Any],
) -> spec.Call:
    """A call with ``change`` of each schedule among its own options in its place."""

    def new(call: spec.Call, name: str, wanted: Any, value: Any) -> Any:
        if isinstance(value, spec.Pipe) and _is_schedule(value, wanted):
            return change(Place(call.name, name, wanted, value))
        return value

    return _in_call(call, entry, new)


def _in_call(
    call: spec.Call, entry: registry.Entry, new: Callable[..., Any]
) -> spec.Call:
    options = [(o.name, o.type) for o in entry.options()]
    types = dict(options)
    # Values too many are kept as they are: who builds the call complains.
    slots = [*options, *[("", None)] * len(call.args)]
    args = tuple(new(call, *slot, v) for slot, v in zip(slots, call.args, strict=False))
    kwargs = tuple(
        (n, new(call, n, types.get(n, entry.rest()), v)) for n, v in call.kwargs
    )
    return dataclasses.replace(call, args=args, kwargs=kwargs)


def _is_schedule(value: spec.Pipe, wanted: Any) -> bool:
    """Whether a call stands where a number is wanted."""
    call = value.calls[0]
    numeric = {int, float} & set(_flat(wanted))
    written = call.args or call.kwargs or call.name in registry.entries("schedule")
    return bool(numeric and written and len(value.calls) == 1)


def _flat(wanted: Any) -> list[Any]:
    """The types that a union joins; a list of numbers is none of them."""
    if typing.get_origin(wanted) is tuple:
        return []
    inner = typing.get_args(wanted)
    return [k for part in inner for k in _flat(part)] if inner else [wanted]


def refused(text: str) -> Callable[[Place], Any]:
    """A change that takes no schedule at all."""

    def change(place: Place) -> Any:
        place.read(text)
        raise SpecError(
            f"{place.call}: {place.option} changes over rounds, which only the links, "
            "the clients' and the server's steps of a run can do; give one number",
            text,
            place.value.position,
        )

    return change
