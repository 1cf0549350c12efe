"""Virtual time of the rounds of a run: planned before each, settled by true bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedjax_compress.clock import Clock, Spans, choose, length, spans, uniform
from fedjax_compress.errors import InputError
from fedjax_compress.simulate.foresee import Messages
from fedjax_compress.simulate.joules import joules
from fedjax_compress.simulate.readings import Plan, Reading, Timed
from fedjax_compress.simulate.work import Work

Array = np.ndarray
_DROPOUT = 0x44524F50
_MOST = 1e15
"""Seconds that a client may take."""
_TRAINING = 6
"""Operations of training for each multiply-accumulate of a forward pass."""


class Timer:
    """Reads the clock of a run.

    Args:
      clock: what takes how long.
      work: of each phase.
      seed: of the run; what each client has is drawn with it.
      sizes: int [clients], rows.
      wanted: reports a round.

    Raises:
      InputError: a trace of too few clients, more to be invited than there are, or no
        work.
    """

    def __init__(
        self, clock: Clock, work: Sequence[Work], seed: int, sizes: Array, wanted: int
    ):
        self.clock, self.work, self.seed, self.sizes = clock, work, seed, sizes
        self.wanted, clients = wanted, len(sizes)
        if not work:
            raise InputError("a clock needs to know what clients compute; give work")
        if clock.activity is not None:
            clock.activity.check(clients)
        self.invited = clock.invited(wanted, clients)
        free = np.array([math.inf, math.inf, 0.0])
        self.links = np.broadcast_to(free, (clients, 3))
        if clock.network is not None:
            self.links = _drawn("network", clock.network(seed, clients), (clients, 3))
        self.speeds = np.full(clients, math.inf)
        if clock.devices is not None:
            self.speeds = _drawn("devices", clock.devices(seed, clients), (clients,))
        self.row_seconds = np.zeros(clients)
        if clock.rows is not None:
            self.row_seconds = _drawn("rows", clock.rows(seed, clients), (clients,))
        self.messages: list[Messages] = []

    @property
    def sequential(self) -> bool:
        """Whether a round can be planned only once the one before it is over."""
        exact = all(each.exact for each in self.messages)
        return self.clock.layers is not None or (self.clock.chooses and not exact)

    def candidates(self, now: float) -> tuple[Array | None, float]:
        """Who can be invited (None: everybody), and from when on."""
        activity = self.clock.activity
        if activity is None:
            return None, now
        ids = np.arange(len(self.sizes))
        begin = activity.next_with(ids, self.invited, now)
        if begin == math.inf:
            raise InputError(
                f"clock: {self.invited} clients are wanted for a round, and never so "
                "many are there at once; lower cohort, or give a trace with more"
            )
        return np.flatnonzero(activity.active(ids, begin)).astype(np.int32), begin

    def plan(
        self,
        number: int,
        ids: Array,
        tiers: Array,
        phase: int,
        before: Reading,
        begin: float,
    ) -> Plan:
        """Whose report will count in round ``number``, from 0.

        Args:
          number: of the round.
          ids: int [n], those invited, ascending.
          tiers: int [n], of each.
          phase: of the run.
          before: the clock after the last round.
          begin: when this one begins.
        """
        found = self.foreseen(ids, phase, before, tiers)
        self.check(ids, found)
        chance = uniform(self.seed, number, ids, _DROPOUT)
        ends, lost = self.ends(ids, begin, found, chance < self.clock.dropout)
        rules = self.clock.deadline, self.clock.least
        choice = choose(ids, ends, lost, self.wanted, *rules)
        sizes = self.messages[phase].bytes_of(tiers, self.sizes[ids])
        waited = begin - before.now
        return Plan(ids, begin, waited, found.compute, found, sizes, choice)

    def foreseen(
        self, ids: Array, phase: int, before: Reading, tiers: Array | None = None
    ) -> Spans:
        """What clients need, by the sizes that are known beforehand; as in ``plan``."""
        tiers = np.zeros(len(ids), int) if tiers is None else tiers
        work, known = self.work[phase], self.messages[phase]
        operations = self.clock.coding * 2.0 * np.asarray(work.parameters)[tiers]
        rows = np.asarray(work.rows(self.sizes[ids]), float)
        operations = operations + _TRAINING * np.asarray(work.macs)[tiers] * rows
        compute = operations / self.speeds[ids] + rows * self.row_seconds[ids]
        down, up = known.bytes_of(tiers, self.sizes[ids])
        if not known.exact and before.up:
            down, up = down * before.down, up * before.up
        return spans(self.links[ids], down, up, compute)

    def check(self, ids: Array, found: Spans) -> None:
        """Raises InputError where a client would take for ever."""
        bad = np.flatnonzero(~(found.total <= _MOST))
        if len(bad):
            raise InputError(
                f"clock: client {ids[bad[0]]} would take {found.total[bad[0]]:.3g} "
                "seconds for a round; give larger rates and speeds, or smaller "
                "latency, coding and sigma"
            )

    def ends(
        self, ids: Array, begin: float, found: Spans, lost: Array
    ) -> tuple[Array, Array]:
        """Seconds until each client has reported, or is gone, and who is lost.

        One that drops out is gone when its report was due.
        """
        activity = self.clock.activity
        if activity is None:
            return found.total, lost
        finish = activity.finish(ids, begin, found.total)
        away = np.isinf(finish)
        stays = np.minimum(activity.stays(ids, begin), found.total)
        return np.where(away, stays, finish - begin), lost | away

    def settle(
        self,
        plan: Plan,
        down: Array,
        up: Array,
        before: Reading,
        kept: Array | None = None,
    ) -> Timed:
        """The round by the true bytes of its messages.

        Args:
          plan: as it was foreseen.
          down, up: int64 [n], bytes, in the order of client ids.
          before: the clock after the last round.
          kept: parameters in use in each layer, for a clock of layers.
        """
        choice, clock = plan.choice, self.clock
        found = spans(self.links[plan.ids], down, up, plan.compute)
        begin = plan.begin if clock.chooses else before.now
        ends, _ = self.ends(plan.ids, begin, found, choice.lost)
        used, lost = choice.kept, choice.lost
        seconds = length(ends, choice.arrived, lost, self.wanted, clock.deadline)
        if clock.layers is not None:
            assert kept is not None
            seconds = clock.layers.seconds(kept)
            found = Spans(*(np.full(len(plan.ids), x) for x in (0.0, seconds, 0.0)))
        sends = self.reached(plan.ids, begin, found.download + found.compute)
        sent = ~lost & (choice.arrived | (sends < seconds))
        figures = self.figures(plan, found, seconds)
        if clock.power is not None:
            until = np.where(choice.arrived, math.inf, np.minimum(seconds, ends))
            waits = np.where(choice.arrived, seconds - ends, 0.0)
            each = self.joules(plan.ids, begin, found, until, ~lost, waits)
            figures["energy_joules"] = float(each.sum())
        if clock.chooses:
            figures["lost"] = int(choice.lost.sum())
            figures["late"] = int((~choice.lost & ~choice.arrived).sum())
            figures["sent"] = int(sent.sum())
        if choice.failed:
            figures["failed"] = True
        reading = self.noted(Reading(begin + seconds), plan, down, up, before)
        return Timed(used, sent, figures, reading, found, plan)

    def noted(
        self, now: Reading, plan: Plan, down: Array, up: Array, before: Reading
    ) -> Reading:
        """A reading with the sizes of messages, where those depend on values."""
        came = plan.choice.arrived
        if all(each.exact for each in self.messages):
            return now
        if not came.any():
            return now._replace(down=before.down, up=before.up)
        each = zip((down, up), plan.sizes, strict=True)
        ratios = [float(true[came].sum() / max(x[came].sum(), 1)) for true, x in each]
        return now._replace(down=ratios[0], up=ratios[1])

    def reached(self, ids: Array, begin: float, need: Array) -> Array:
        """Seconds after which each client has had so many that it was there."""
        activity = self.clock.activity
        if activity is None or not activity.pauses:
            return need
        return activity.finish(ids, begin, need) - begin

    def joules(
        self,
        ids: Array,
        begin: float | Array,
        found: Spans,
        until: Array,
        sends: Array,
        waits: Array,
    ) -> Array:
        """What each client has drawn.

        Args:
          ids: of the clients.
          begin: when they have begun.
          found: what they need.
          until: seconds from then on until each leaves off; infinity: it ends it all.
          sends: bool, who reports.
          waits: seconds that each waits for the others.
        """
        activity, power = self.clock.activity, self.clock.power
        assert power is not None
        if activity is not None and activity.pauses:
            whole = np.isinf(until)
            there = activity.had(ids, begin, np.where(whole, 0.0, until))
            until = np.where(whole, until, there)
        return joules(power, self.links[ids, :2], found, until, sends, waits)

    def figures(self, plan: Plan, found: Spans, seconds: float) -> dict[str, Any]:
        """Of a record: the round's duration, and what its reports took on the mean."""
        used = plan.choice.kept
        share = lambda x: float(x[used].mean()) if used.any() else 0.0  # noqa: E731
        waits = plan.staleness is None
        return {
            "virtual_seconds": plan.waited + seconds,
            "download_seconds": share(found.download),
            "compute_seconds": share(found.compute),
            "upload_seconds": share(found.upload),
            "waiting_seconds": share(seconds - found.total) if waits else 0.0,
        }


def _drawn(name: str, found: Any, shape: tuple[int, ...]) -> Array:
    """What a user's own clock draws, if it can be used."""
    found = np.asarray(found, float)
    if found.shape != shape:
        raise InputError(
            f"clock: {name} must give {list(shape)} numbers, not {list(found.shape)}"
        )
    least = found[..., :2] if len(shape) > 1 else found
    if not (least >= 0).all() or (name != "rows" and not (least > 0).all()):
        raise InputError(f"clock: {name} must give numbers above 0")
    return found
