"""Whom a round waits for."""

from __future__ import annotations

import math
from typing import Literal

from fedjax_compress.clock.clock import Part
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register

State = Literal["before", "reached"]


@register("clock")
def none() -> Part:
    """No virtual time."""
    return {}


@register("clock")
def over_selection(factor: float = 1.3, state: State = "before") -> Part:
    """More clients are invited than wanted, the first are taken: over_selection(1.3).

    ceil(factor * cohort) clients are invited; the round ends with the report of the
    last of the first ``cohort``. What the others have begun to send is counted.

    Args:
      factor: at least 1.
      state: what a client keeps whose report is not waited for: its state ``before``
        the round, or the one ``reached``, with what it believes to have sent.

    Raises:
      InputError: a factor below 1.

    Reference: Bonawitz et al. 2019 (130 %, from memory).
    """
    if not 1 <= factor < 1e6:
        raise InputError(f"factor must be at least 1, not {factor:g}")
    return {"over": factor, "keeps": state == "reached"}


@register("clock")
def deadline(
    seconds: float,
    least: float = 0.0,
    stop: bool = False,
    state: State = "before",
) -> Part:
    """A round ends after so many seconds, whoever is missing: deadline(270, least=0.8).

    It ends earlier where all have reported, or as many as ``over_selection`` wants.

    Args:
      seconds: from the start of the round, above 0.
      least: share of the cohort that must have reported; else the round has failed, and
        none of its reports is used.
      stop: a failed round ends the run.
      state: as in ``over_selection``.

    Raises:
      InputError: a number out of its range.

    Reference: FLASH waits 270 seconds and wants 0.8 of those selected.
    """
    if not (0 < seconds <= 1e15 or seconds == math.inf) or not 0 <= least <= 1:
        raise InputError(
            "seconds must be above 0 (and at most 1e15) and least from 0 to 1, not "
            f"{seconds:g}, {least:g}"
        )
    found = {"deadline": seconds, "least": least, "ends": stop}
    return {**found, "keeps": state == "reached"}


@register("clock")
def dropout(rate: float = 0.06, state: State = "before") -> Part:
    """Clients that are invited, train, and never report: dropout(0.06).

    Each with the same chance in each round. A round that lacks a report waits until its
    deadline; without one until it was due.

    Args:
      rate: from 0 to below 1.
      state: as in ``over_selection``.

    Raises:
      InputError: a rate out of its range.

    Reference: Bonawitz et al. 2019 saw 6 to 10 % (from memory).
    """
    if not 0 <= rate < 1:
        raise InputError(f"rate must be from 0 to below 1, not {rate:g}")
    return {"dropout": rate, "keeps": state == "reached"}
