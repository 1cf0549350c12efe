"""Virtual time: what links, devices and rules of waiting make of bytes and operations.

A clock is written as a pipe of parts, in any order, each at most once::

    network(mobile_2020) | devices(phone, sigma=0.6) | over_selection(1.3)

What is left out takes no time (links, devices), has no say (rules) or is not counted
(energy).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedjax_compress import registry, spec
from fedjax_compress.clock.activity import Activity
from fedjax_compress.errors import InputError, SpecError

Array = np.ndarray
Draw = Callable[[int, int], Array]
"""(seed of the run, number of clients) -> float64 [clients], or [clients, n]: what
each client has, which follows from its id and the seed."""


class Power(NamedTuple):
    """What a client's device draws, in watts.

    Attributes:
      per_up, per_down: of the radio, for each Mbit/s of what it sends and receives.
      radio: of the radio while it does either.
      compute: while it computes.
      idle: while it waits for the others.
      tail: joules of the radio behind each exchange.
    """

    per_up: float
    per_down: float
    radio: float
    compute: float
    idle: float
    tail: float


class Layers(NamedTuple):
    """A round's time that is linear in the parameters kept, see ``prune.TimeModel``.

    Attributes:
      name: of the model of time.
      seconds: kept parameters of each layer, int64 [layers] -> seconds.
      layers: their number.
    """

    name: str
    seconds: Callable[[Array], float]
    layers: int


class Clock(NamedTuple):
    """How long a client takes, whom a round waits for, and what it draws.

    Attributes:
      network: (seed, clients) -> [clients, 3], bit/s down and up, seconds of latency;
        None for links that take no time.
      devices: (seed, clients) -> [clients], operations a second; None likewise.
      rows: (seed, clients) -> [clients], seconds of training for one row, besides.
      coding: operations for each parameter that is encoded or decoded.
      layers: in place of links and devices: PruneFL's time.
      activity: when clients are there; None for always.
      power: None where energy is not counted.
      over: invited clients for each wanted one, at least 1.
      deadline: seconds after which a round does not wait.
      least: share of the wanted clients below which a round has failed.
      ends: whether a failed round ends the run.
      dropout: chance that an invited client never reports.
      keeps: whether a client whose report is not waited for keeps the state that it has
        reached; else it has the one from before the round.
    """

    network: Draw | None = None
    devices: Draw | None = None
    rows: Draw | None = None
    coding: float = 0.0
    layers: Layers | None = None
    activity: Activity | None = None
    power: Power | None = None
    over: float = 1.0
    deadline: float = math.inf
    least: float = 0.0
    ends: bool = False
    dropout: float = 0.0
    keeps: bool = False

    @property
    def chooses(self) -> bool:
        """Whether a round may go without some of those invited."""
        return self.activity is not None or (
            self.over > 1 or self.deadline < math.inf or self.dropout > 0
        )

    def invited(self, wanted: int, clients: int) -> int:
        """How many clients are asked so that ``wanted`` report: ceil(over * wanted).

        Raises:
          InputError: there are not so many.
        """
        number = math.ceil(round(self.over * wanted, 9))
        if number > clients:
            raise InputError(
                f"clock: over_selection invites {number} clients for a cohort of "
                f"{wanted}, and there are {clients}; lower cohort or factor"
            )
        return number


Part = dict[str, Any]
"""Attributes of a clock that one part sets."""


def parse(text: str) -> Clock:
    """The clock that a specification describes.

    Raises:
      SpecError: as ``registry.build``; or two parts that say the same.
    """
    said: dict[str, str] = {}
    found: Part = {}
    for call in spec.parse(text).calls:
        entry = registry.lookup(call, "clock", text=text)
        for name, value in registry.build_call(entry, call, text).items():
            both = f"{said.get(name)} and {call.name}"
            if name == "keeps":  # said by several rules
                if found.get(name, value) != value:
                    reason = f"{both} differ in state; give both the same"
                    raise SpecError(reason, text, call.position)
            elif name in said:
                reason = f"{both} say the same ({name}); leave one out"
                raise SpecError(reason, text, call.position)
            said[name], found[name] = call.name, value
    clock = Clock(**found)
    if clock.layers and len(found) > 1:
        reason = f"{clock.layers.name} is a whole round's time; leave the others out"
        raise SpecError(reason, text, 0)
    return clock


registry.build_by("clock", parse)
