"""Whose report a round gets, and when it ends: from each client's time alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

Array = np.ndarray
_MASK = (1 << 64) - 1


class Spans(NamedTuple):
    """What the clients of a round need, float64 [n] each, seconds.

    Attributes:
      download: latency, and bits down over the rate.
      compute: training, decoding and encoding.
      upload: bits up over the rate.
    """

    download: Array
    compute: Array
    upload: Array

    @property
    def total(self) -> Array:
        """Download, computing and upload."""
        return self.download + self.compute + self.upload


class Choice(NamedTuple):
    """Who counts in a round.

    Attributes:
      kept: bool [n], whose report is used.
      arrived: bool [n], whose report has come in time; none is used if it has failed.
      lost: bool [n], who never reports.
      seconds: how long the round takes.
      failed: fewer reports than the rule demands; none is used.
    """

    kept: Array
    arrived: Array
    lost: Array
    seconds: float
    failed: bool


def spans(link: Array, down: Array, up: Array, compute: Array) -> Spans:
    """Seconds of messages and computing.

    Args:
      link: float64 [n, 3], bit/s down and up, seconds of latency.
      down, up: bytes of each client's messages.
      compute: seconds of computing.
    """
    zero = np.zeros(len(link))
    down, up, compute = (np.asarray(x, float) + zero for x in (down, up, compute))
    return Spans(link[:, 2] + 8 * down / link[:, 0], compute, 8 * up / link[:, 1])


def choose(
    ids: Array,
    ends: Array,
    lost: Array,
    wanted: int,
    deadline: float = math.inf,
    least: float = 0.0,
) -> Choice:
    """The first ``wanted`` who report in time, ties by client id.

    The round lasts until the last of them. Where fewer report in time, it lasts until
    the deadline if there is one, else until the last has reported or is gone.

    Args:
      ids: int [n].
      ends: float64 [n], seconds from the beginning of the round to the report, or to
        when the client is known to be gone.
      lost: bool [n], who never reports.
      wanted: number of reports.
      deadline: seconds.
      least: share of ``wanted`` below which the round has failed.
    """
    order = np.lexsort((ids, ends))
    in_time = order[~lost[order] & (ends[order] <= deadline)]
    kept = np.zeros(len(ids), bool)
    kept[in_time[:wanted]] = True
    seconds = length(ends, kept, lost, wanted, deadline)
    failed = kept.sum() < max(1, math.ceil(round(least * wanted, 9)))
    return Choice(kept & (not failed), kept, lost, seconds, bool(failed))


def length(
    ends: Array, kept: Array, lost: Array, wanted: int, deadline: float
) -> float:
    """Seconds of a round; arguments as of ``choose``, ``kept``: who has reported.

    Never less than they took: who was counted on is waited for, also beyond a deadline
    that it was foreseen to meet.
    """
    last = float(ends[kept].max()) if kept.any() else 0.0
    if kept.sum() >= min(wanted, len(kept)):
        return last
    if deadline < math.inf:
        return max(deadline, last)
    return float(ends[kept | lost].max())


def uniform(seed: int, number: int, ids: Array, stream: int) -> Array:
    """A number from 0 to below 1 for each client, float64, whatever its place.

    SplitMix64 of seed, round, stream and client id.
    """
    x: Array = np.atleast_1d(np.uint64(seed & _MASK))
    for word in (number, stream):
        x = _mixed(x ^ np.uint64(word & _MASK))
    mixed = _mixed(x ^ np.asarray(ids).astype(np.uint64))
    return (mixed >> np.uint64(11)).astype(float) * 2.0**-53


def _mixed(x: Array) -> Array:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
