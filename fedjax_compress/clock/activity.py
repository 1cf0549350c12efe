"""When clients are there: intervals in a period that repeats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_compress.errors import InputError

Array = np.ndarray
_TRIES = 1_000


class Activity(NamedTuple):
    """Intervals of each client, in a period of its own that repeats for ever.

    A client is there in ``[start, end)``. One without intervals is always there.

    Attributes:
      starts, ends: float64 [clients, most], seconds from 0 to the period; they rise and
        do not touch. Infinity behind the last.
      period: float64 [clients], seconds.
      pauses: work waits while a client is away; else it is lost.
      repeats: clients beyond the last begin again with the first; else there are none.
    """

    starts: Array
    ends: Array
    period: Array
    pauses: bool = False
    repeats: bool = True

    def active(self, ids: Array, now: float) -> Array:
        """Whether each client is there at a time, bool [n]."""
        return self._left(ids, now) > 0

    def stays(self, ids: Array, now: float) -> Array:
        """Seconds for which each client stays from now on, float64 [n]."""
        return self._left(ids, now)

    def finish(self, ids: Array, now: float, need: Array) -> Array:
        """When each client has had the seconds that it needs, float64 [n].

        Where work pauses, the first instant at which the time that it was there adds up
        to ``need``; where it is lost, ``now + need`` if it is there all along, else
        infinity.
        """
        if self.pauses:
            return self._paused(ids, now, need)
        left = self._left(ids, now)
        return np.where((left > 0) & (left >= need), now + need, np.inf)

    def check(self, clients: int) -> None:
        """Raises InputError where there are fewer than the clients of a run."""
        size = len(self.period)
        if not self.repeats and clients > size:
            raise InputError(
                f"clock: the trace has {size} clients and the run {clients}; give more "
                "rows, or repeat=true to begin again with the first"
            )

    def had(self, ids: Array, now: float | Array, seconds: Array) -> Array:
        """For how many of the next seconds each client is there, float64 [n]."""
        known, starts, lengths, period = self._lengths(ids)

        def until(t: Array) -> Array:
            periods = np.floor(t / period)
            rest = (t - periods * period)[:, None]
            whole = periods * lengths.sum(1)
            return np.asarray(whole + np.clip(rest - starts, 0, lengths).sum(1))

        found = until(now + seconds) - until(np.full(len(period), now))
        return np.where(known[:, 0], np.clip(found, 0, seconds), seconds)

    def _lengths(self, ids: Array) -> tuple[Array, Array, Array, Array]:
        """Which intervals there are, where they start and how long they last, 0 for the
        others; [n, most]; and the periods."""
        place = self._place(ids)
        starts, ends = self.starts[place], self.ends[place]
        known = np.isfinite(starts)
        starts = np.where(known, starts, 0.0)
        lengths = np.where(known, np.where(known, ends, 0.0) - starts, 0.0)
        return known, starts, lengths, self.period[place]

    def _place(self, ids: Array) -> Array:
        return ids % len(self.period)

    def _left(self, ids: Array, now: float) -> Array:
        """Seconds for which each client stays; 0 where it is away.

        Beyond the end of a period, if it is there at the next one's beginning.
        """
        place = self._place(ids)
        starts, ends, period = self.starts[place], self.ends[place], self.period[place]
        t = now % period
        begun = (starts <= t[:, None]).sum(1)
        end = np.take_along_axis(ends, np.maximum(begun - 1, 0)[:, None], 1)[:, 0]
        left = np.where(begun > 0, np.maximum(end - t, 0), 0.0)
        on = (left > 0) & (end == period) & (starts[:, 0] == 0)
        whole = ends[:, 0] == period
        left += np.where(on, np.where(whole, np.inf, ends[:, 0]), 0.0)
        return np.where(np.isinf(starts[:, 0]), np.inf, left)

    def _paused(self, ids: Array, now: float, need: Array) -> Array:
        known, starts, lengths, period = self._lengths(ids)
        t = now % period
        had = np.clip(t[:, None] - starts, 0, lengths).sum(1)  # in this period
        at_once = ~known[:, 0] | (need <= 0) | np.isinf(need)
        each, total = lengths.sum(1), np.where(at_once, 0, need) + had
        each = np.where(known[:, 0], each, 1.0)
        periods = np.floor(total / each)
        rest = total - periods * each
        at_end = (rest <= 0) & (periods > 0)
        periods, rest = periods - at_end, np.where(at_end, each, rest)
        sums = np.cumsum(lengths, axis=1)
        last = np.maximum(known.sum(1) - 1, 0)
        j = np.minimum((sums < rest[:, None]).sum(1), last)[:, None]
        into = rest - np.take_along_axis(sums - lengths, j, 1)[:, 0]
        at = np.take_along_axis(starts, j, 1)[:, 0] + into
        found = now - t + periods * period + at
        return np.where(at_once, now + need, np.maximum(found, now))

    def next_with(self, ids: Array, number: int, now: float) -> float:
        """The first instant from ``now`` on at which so many of the clients are there.

        Infinity where none is found.
        """
        place = self._place(ids)
        starts, period = self.starts[place], self.period[place]
        # Where all have one period, nothing is new after it.
        last = now + period[0] if (period == period[:1]).all() else np.inf
        for _ in range(_TRIES):
            there = self.active(ids, now)
            missing = number - int(there.sum())
            if missing <= 0:
                return float(now)
            waits = starts - (now % period)[:, None]
            waits = np.where(waits > 0, waits, waits + period[:, None]).min(1)
            waits = np.sort(waits[~there])
            if missing > len(waits) or not np.isfinite(waits[missing - 1]):
                return float("inf")
            # No earlier, since each of those missing has to come first.
            then = now + waits[missing - 1]
            now = then if then > now else np.nextafter(now, np.inf)
            if now > last:
                break
        return float("inf")
