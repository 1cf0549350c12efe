"""Virtual time of the rounds of a run: planned before each, settled by true bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_compress.clock import Choice, Clock, Spans, choose, length, spans, uniform
from fedjax_compress.errors import InputError
from fedjax_compress.simulate.foresee import Messages
from fedjax_compress.simulate.work import Work

Array = np.ndarray
_DROPOUT = 0x44524F50
_TRAINING = 6
"""Operations of training for each multiply-accumulate of a forward pass."""


class Reading(NamedTuple):
    """Where the clock stands after a round; kept in checkpoints.

    Attributes:
      now: virtual seconds since the run began.
      up: mean bytes of the last round's reports; 0 before there are any, and where all
        sizes are known beforehand.
      begun: clients that have begun so far, where nobody waits.
      jobs: what clients are at then: when each ends, its id, the round in which it has
        begun, and whether it reports.
    """

    now: float = 0.0
    up: float = 0.0
    begun: int = 0
    jobs: tuple[tuple[float, int, int, bool], ...] = ()


class Wasted(NamedTuple):
    """Clients that nobody waits for and whose work is lost.

    Attributes:
      stale: reports that were too old.
      lost: clients that never reported.
      down, up: bytes of both, as foreseen.
    """

    stale: int = 0
    lost: int = 0
    down: int = 0
    up: int = 0


class Plan(NamedTuple):
    """A round as it is foreseen.

    Attributes:
      ids: int32 [n], those invited, ascending.
      begin: when the round begins.
      waited: seconds until so many clients were there.
      compute: float64 [n], seconds.
      spans: foreseen.
      choice: whose report counts, and for how long the round is foreseen to last.
      staleness: int32 [n], rounds since each began; None where all begin with it.
      after: the clock behind it, where nobody waits.
      wasted: what did not become a report.
    """

    ids: Array
    begin: float
    waited: float
    compute: Array
    spans: Spans
    choice: Choice
    staleness: Array | None = None
    after: Reading | None = None
    wasted: Wasted = Wasted()

    @property
    def end(self) -> Reading:
        """The clock behind it, as foreseen; right where sizes are."""
        return self.after or Reading(self.begin + self.choice.seconds)


class Timed(NamedTuple):
    """A round as it was.

    Attributes:
      kept: bool [n], whose report counts.
      sent: bool [n], who has begun to send one.
      figures: for the record.
      reading: of the clock after it.
      spans: of the clients.
      plan: as it was foreseen.
    """

    kept: Array
    sent: Array
    figures: dict[str, Any]
    reading: Reading
    spans: Spans
    plan: Plan


class Timer:
    """Reads the clock of a run.

    Args:
      clock: what takes how long.
      work: of each phase.
      seed: of the run; what each client has is drawn with it.
      sizes: int [clients], rows.
      wanted: reports a round.

    Raises:
      InputError: a trace of too few clients, or more to be invited than there are.
    """

    def __init__(
        self, clock: Clock, work: Sequence[Work], seed: int, sizes: Array, wanted: int
    ):
        self.clock, self.work, self.seed, self.sizes = clock, work, seed, sizes
        self.wanted, clients = wanted, len(sizes)
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
        found = self.foreseen(number, ids, phase, before, tiers)
        chance = uniform(self.seed, number, ids, _DROPOUT)
        ends, lost = self.ends(ids, begin, found, chance < self.clock.dropout)
        rules = self.clock.deadline, self.clock.least
        choice = choose(ids, ends, lost, self.wanted, *rules)
        return Plan(ids, begin, begin - before.now, found.compute, found, choice)

    def foreseen(
        self,
        number: int,
        ids: Array,
        phase: int,
        before: Reading,
        tiers: Array | None = None,
    ) -> Spans:
        """What clients need, by the sizes that are known beforehand; as in ``plan``."""
        tiers = np.zeros(len(ids), int) if tiers is None else tiers
        work, known = self.work[phase], self.messages[phase]
        operations = self.clock.coding * 2.0 * np.asarray(work.parameters)[tiers]
        rows = np.asarray(work.rows(self.sizes[ids]), float)
        operations = operations + _TRAINING * np.asarray(work.macs)[tiers] * rows
        compute = operations / self.speeds[ids] + rows * self.row_seconds[ids]
        up = np.asarray(known.up, float)[tiers]
        if not known.exact and before.up:
            up = up * before.up / up.mean()
        return spans(self.links[ids], np.asarray(known.down)[tiers], up, compute)

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
        seconds = length(ends, used, lost, self.wanted, clock.deadline)
        if clock.layers is not None:
            assert kept is not None
            seconds = clock.layers.seconds(kept)
            found = Spans(*(np.full(len(plan.ids), x) for x in (0.0, seconds, 0.0)))
        before_up = found.download + found.compute
        sent = ~lost & (used | (before_up < seconds))
        figures = self.figures(plan, found, seconds)
        if clock.chooses:
            figures["lost"] = int(choice.lost.sum())
            figures["late"] = int((~choice.lost & ~used).sum())
            figures["sent"] = int(sent.sum())
        if choice.failed:
            figures["failed"] = True
        mean = before.up
        if used.any() and not all(each.exact for each in self.messages):
            mean = float(np.mean(up[used]))
        reading = Reading(begin + seconds, mean)
        return Timed(used, sent, figures, reading, found, plan)

    def figures(self, plan: Plan, found: Spans, seconds: float) -> dict[str, Any]:
        """Of a record: the round's duration, and what its reports took on the mean."""
        used = plan.choice.kept
        share = lambda x: float(x[used].mean()) if used.any() else 0.0  # noqa: E731
        waits = plan.staleness is None
        figures: dict[str, Any] = {
            "virtual_seconds": plan.waited + seconds,
            "download_seconds": share(found.download),
            "compute_seconds": share(found.compute),
            "upload_seconds": share(found.upload),
            "waiting_seconds": share(seconds - found.total) if waits else 0.0,
        }
        if self.clock.power is not None:
            last = seconds if waits else 0.0
            joules = self._joules(plan.ids, found, last, plan.choice)
            figures["energy_joules"] = float(joules.sum())
        return figures

    def _joules(
        self, ids: Array, found: Spans, seconds: float, choice: Choice
    ) -> Array:
        """What each client has drawn; those who are not waited for until the end."""
        power = self.clock.power
        assert power is not None
        end = np.where(choice.kept, math.inf, seconds)
        down = np.minimum(found.download, end)
        compute = np.clip(end - found.download, 0, found.compute)
        up = np.clip(end - found.download - found.compute, 0, found.upload)
        up = np.where(choice.lost, 0.0, up)
        rates = np.where(np.isfinite(self.links[ids, :2]), self.links[ids, :2], 0) / 1e6
        waiting = np.clip(seconds - down - compute - up, 0, None)
        return (
            (power.per_down * rates[:, 0] + power.radio) * down
            + (power.per_up * rates[:, 1] + power.radio) * up
            + power.compute * compute
            + power.idle * waiting
            + power.tail
        )


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
