"""Which parts there are, which are asked for, and how long each may take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

TOTAL = 480.0
"""Seconds that everything together may take."""
QUICK = 120.0
"""Seconds of each part with ``--quick``, which a busy CPU may need."""
LEAST = 5.0
"""No part is begun with fewer seconds left."""


class Part(NamedTuple):
    """Something measured in a process of its own.

    Attributes:
      name: what ``--parts`` calls it.
      seconds: its limit, from the start of its process.
      what: what it measures, in a line.
    """

    name: str
    seconds: float
    what: str


PARTS = (
    Part("environment", 25, "versions, device, peak of matrix products"),
    Part("w1", 100, "CNN of 1.2 M parameters, 100 to 10,000 clients a round"),
    Part("w2", 40, "one dense layer, 100 to 10,000 clients a round"),
    Part("overhead", 80, "what compression adds to rounds of W1"),
    Part("memory", 45, "10,000 clients in one compiled step, peak memory"),
    Part("flute", 45, "FLUTE's FEMNIST recipe: 10 of 3,400 clients a round"),
    Part("pfl", 45, "pfl-research's CIFAR-10 recipe: 50 of 1,000 clients a round"),
    Part("grativol", 95, "cells of Grativol's table with one local epoch"),
)
"""In the order in which they run; the limits come to less than ``TOTAL``."""
NAMES = tuple(part.name for part in PARTS)


class PlanError(Exception):
    """What is asked for cannot be done; one line says what could."""


def chosen(names: str, limits: Sequence[str] = (), quick: bool = False) -> list[Part]:
    """The parts that are asked for, in the order of ``PARTS``, with their limits.

    Args:
      names: joined by commas; empty for all.
      limits: each ``name=seconds``, for a part that is asked for.
      quick: whether the others have that of ``QUICK``.

    Raises:
      PlanError: a name that is none, one twice, or a limit that is no number above 0.
    """
    wanted = [name.strip() for name in names.split(",")] if names else list(NAMES)
    for name in wanted:
        _known(name)
    if len(set(wanted)) < len(wanted):
        raise PlanError(f"--parts {names} names a part twice")
    seconds = dict(_limit(text, wanted) for text in limits)
    usual = {part.name: QUICK if quick else part.seconds for part in PARTS}
    limit = usual | seconds
    return [
        part._replace(seconds=limit[part.name]) for part in PARTS if part.name in wanted
    ]


def _limit(text: str, wanted: Sequence[str]) -> tuple[str, float]:
    name, _, number = text.partition("=")
    _known(name)
    if name not in wanted:
        raise PlanError(f"--limit {text}: {name} is not among the parts asked for")
    try:
        seconds = float(number)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise PlanError(f"--limit {text} must be a part and seconds, as in w1=60")
    return name, seconds


def _known(name: str) -> None:
    if name not in NAMES:
        raise PlanError(f"there is no part {name!r}; known: {', '.join(NAMES)}")


def allowed(part: Part, left: float) -> float:
    """Seconds that a part gets of those that are left; 0 if it is not worth it."""
    return min(part.seconds, left) if left >= LEAST else 0.0
