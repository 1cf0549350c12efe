"""What scores are shown against: megabytes, rounds, virtual time or energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest
from fedjax_compress.report.scores import Score

Figures = dict[str, Any]


class Unit(NamedTuple):
    """A unit of an axis.

    Attributes:
      least: it is used where the largest amount is at least this.
      size: amounts are divided by it.
      name: as the axis says it.
    """

    least: float
    size: float
    name: str


class Axis(NamedTuple):
    """An x axis.

    Attributes:
      name: as users give it.
      title: the score is shown against this.
      curve: its label where amounts add up over rounds; {unit} stands for the unit.
      point: its label where there is one amount for a run.
      units: ascending.
      amount: of a round of a curve, or of a summary; None where it is not known.
      lacks: what a run lacks that has no amounts.
    """

    name: str
    title: str
    curve: str
    point: str
    units: tuple[Unit, ...]
    amount: Callable[[Figures], float | None]
    lacks: str = ""

    def unit(self, highest: float) -> Unit:
        """The one in which such amounts are shown."""
        return [u for u in self.units if highest >= u.least or u is self.units[0]][-1]


class View(NamedTuple):
    """How results are shown.

    Attributes:
      axis: of the plots.
      target: of the score; what it takes to reach it is told as well.
    """

    axis: Axis
    target: float | None = None

    def to_target(self, curve: list[Figures], score: Score, timed: bool) -> Figures:
        """What a run takes to its target, each None if it is never reached.

        Args:
          curve: its evaluated rounds.
          score: by what it is judged.
          timed: whether it has a clock.
        """
        if self.target is None:
            return {}
        wanted = score.worth(self.target)
        there = (r for r in curve if score.worth(r[score.key]) >= wanted)
        first = next(there, None)
        sent = None if first is None else first["bytes_up"] + first["bytes_down"]
        found: Figures = {"bytes_to_target": sent}
        if timed:
            found["seconds_to_target"] = first and first["virtual_seconds"]
        return found

    def check(self, runs: Iterable[tuple[str, Figures]]) -> None:
        """Raises InputError where a run, name and summary, has nothing for the axis."""
        for name, summary in runs:
            if not self.axis.amount(summary):
                raise InputError(
                    f"{name!r} has no {self.axis.title}: it was run without "
                    f"{self.axis.lacks}; choose another axis"
                )


BYTES = Axis(
    "bytes",
    "what travelled",
    "{unit} sent up and down so far, by all clients",
    "{unit} sent {way}, by all clients",
    (Unit(0, 1e6, "MB"),),
    lambda found: found["bytes_up"] + found["bytes_down"],
)
ROUNDS = Axis(
    "rounds",
    "rounds",
    "rounds",
    "rounds",
    (Unit(0, 1, ""),),
    lambda found: found["round"] if "round" in found else found["rounds"],
)
TIME = Axis(
    "time",
    "virtual time",
    "virtual time so far, {unit}",
    "virtual time, {unit}",
    (
        Unit(0, 1e-3, "ms"),
        Unit(1, 1, "s"),
        Unit(120, 60, "min"),
        Unit(7200, 3600, "h"),
        Unit(172_800, 86_400, "days"),
    ),
    lambda found: found.get("virtual_seconds"),
    "a clock that takes time",
)
ENERGY = Axis(
    "energy",
    "energy",
    "energy of all clients so far, {unit}",
    "energy of all clients, {unit}",
    (Unit(0, 1, "J"), Unit(1e3, 1e3, "kJ"), Unit(1e6, 1e6, "MJ")),
    lambda found: found.get("energy_joules"),
    "energy in its clock",
)
AXES = {axis.name: axis for axis in (BYTES, ROUNDS, TIME, ENERGY)}
AS_USUAL = View(BYTES)


def view(axis: str = "bytes", target: float | None = None) -> View:
    """How results are shown, as users say it.

    Raises:
      InputError: there is no such axis, or the target is no number.
    """
    if axis not in AXES:
        raise InputError(f"axis cannot be {axis!r}; {nearest(str(axis), list(AXES))}")
    if target is not None and not (
        isinstance(target, (int, float)) and math.isfinite(target)
    ):
        raise InputError(f"target must be a number, not {target!r}")
    return View(AXES[axis], target)
