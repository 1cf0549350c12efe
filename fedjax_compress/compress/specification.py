"""Compressors from text: ``"hadamard | uniform(bits=4)"``."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from fedjax_compress import registry, spec
from fedjax_compress.checks.returned import describe
from fedjax_compress.compress._chain import chain
from fedjax_compress.compress.lifts import on_leaves
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.numerics import schedules
from fedjax_compress.typing import Compressor, Stage

T = TypeVar("T")


def parse(text: str) -> Compressor:
    """The compressor that a specification describes.

    A pipe of stages works on every leaf: ``"top_k(0.01) | qsgd(bits=4)"`` is
    ``on_leaves(chain(top_k(0.01), qsgd(bits=4)))``. A compressor is one call that takes
    pipes: ``"error_feedback(top_k(0.01))"``, ``"on_vector(hadamard | uniform)"``.

    Raises:
      SpecError: with a caret under the spot, and the nearest known name; an option
        that changes over rounds, see ``phases``.
    """
    pipe = schedules.replace(spec.parse(text), text, schedules.refused(text))
    return _compressor(pipe, text)


class Phase(NamedTuple):
    """A part of a run in which no option changes.

    Attributes:
      after: rounds finished before it begins.
      text: the specification without schedules.
      compressor: what it describes.
    """

    after: int
    text: str
    compressor: Compressor


def phases(text: str) -> list[Phase]:
    """What a specification with schedules describes, phase by phase.

    ``"top_k(steps((0.25, 0.01), after=10))"`` gives ``top_k(0.25)`` after 0 rounds and
    ``top_k(0.01)`` after 10; a specification without schedules is one phase.

    Raises:
      SpecError: as ``parse``, of any phase.
    """
    pipe = spec.parse(text)
    changes = {0}

    def collect(place: schedules.Place) -> spec.Pipe:
        changes.update(place.read(text).after)
        return place.value

    schedules.replace(pipe, text, collect)
    found: list[Phase] = []
    for after in sorted(changes):

        def now(place: schedules.Place, after: int = after) -> int | float:
            return place.read(text).at(after, place.whole)

        plain = schedules.replace(pipe, text, now)
        if not found or str(plain) != found[-1].text:
            found.append(Phase(after, str(plain), _compressor(plain, text)))
    return found


def canonical(text: str) -> str:
    """The specification in its normal form: options named, evenly spaced."""

    def named(place: schedules.Place) -> spec.Pipe:
        place.read(text)
        return spec.parse(registry.canonical("schedule", str(place.value)))

    pipe = schedules.replace(spec.parse(text), text, named)
    return registry.canonical("stage", str(pipe))


def _compressor(pipe: spec.Pipe, text: str) -> Compressor:
    first = pipe.calls[0]
    entry = registry.lookup(first, "stage", "compressor", text=text)
    if entry.kind == "stage":
        return on_leaves(_stage(pipe, text))
    if len(pipe.calls) > 1:
        raise _misplaced(first, text)
    return _made(Compressor, registry.build_call(entry, first, text), first, text)


def _made(kind: type[T], found: Any, call: spec.Call, text: str) -> T:
    """What a factory has made, if it is of the kind that it is registered as."""
    if not isinstance(found, kind):
        reason = f"{call.name} must give a {kind.__name__}, not {describe(found)}"
        raise SpecError(reason, text, call.position)
    return found


def _stage(pipe: spec.Pipe, text: str) -> Stage:
    stages: list[Stage] = []
    for call in pipe.calls:
        entry = registry.lookup(call, "stage", "compressor", text=text)
        if entry.kind != "stage":
            raise _misplaced(call, text)
        stages.append(_made(Stage, registry.build_call(entry, call, text), call, text))
        try:
            chain(*stages)
        except InputError:
            before = pipe.calls[len(stages) - 2].name
            reason = f"{before} leaves no array, so {call.name} cannot follow it"
            raise SpecError(reason, text, call.position) from None
    return chain(*stages)


def _misplaced(call: spec.Call, text: str) -> SpecError:
    reason = (
        f"{call.name} works on whole trees and cannot stand in a pipe of stages; "
        f"write {call.name}(... | ...)"
    )
    return SpecError(reason, text, call.position)


registry.register_type(Stage, _stage, "stage", "compressor")
registry.register_type(Compressor, _compressor, "stage", "compressor")
