"""Clients that nobody waits for: who delivers next, by the clock."""

from __future__ import annotations

import heapq

import numpy as np

from fedjax_compress.clock import Choice, Spans, spans, uniform
from fedjax_compress.errors import InputError
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.plan import Planner, Sampling
from fedjax_compress.simulate.readings import Job, Plan, Reading, Timed, Wasted
from fedjax_compress.simulate.timing import Timer
from fedjax_compress.simulate.watch import Watch

Array = np.ndarray
_DROPOUT = 0x44524F50
_TRIES = 64
_HOPELESS = 20_000
"""So many clients in a row without a report: there will not be any."""


class Deliveries(Watch):
    """Plans the deliveries between two steps of the server.

    Times follow from sizes as they are foreseen, so that the order does: where they
    depend on values, by the mean of the step before. A client begins where one has
    ended, unless it is at work or has delivered since the last step: where nobody is
    left, its place stays empty until one is. Deliveries at the same instant come before
    those who begin then.

    Args:
      timer: reads the clock; its ``wanted`` deliveries make a step.
      phases: of the run, of which the first says how many train at a time.
      sampling: draws who begins.

    Raises:
      InputError: rules that only rounds have, or more at work than there are clients.
    """

    def __init__(self, timer: Timer, phases: Phases, sampling: Sampling):
        super().__init__(timer, phases)
        clock, clients = timer.clock, len(timer.sizes)
        found = phases.algorithms[0].asynchronous
        assert found is not None
        if clock.over > 1 or np.isfinite(clock.deadline) or clock.layers is not None:
            raise InputError(
                "clock: over_selection, deadline and prunefl are of rounds, and this "
                "algorithm waits for nobody; leave them out"
            )
        if clock.keeps:
            raise InputError(
                "clock: state=reached is of rounds; where nobody is waited for, whose "
                "report does not count keeps its state from before; leave it out"
            )
        most = max(timer.wanted, clients - timer.wanted)
        self.oldest, self.sampling = found.max_staleness, sampling
        self.number = found.concurrency or min(10 * timer.wanted, most)
        if self.number > clients:
            raise InputError(
                f"concurrency is {self.number}, and there are only {clients} clients"
            )
        self.chooses = False

    @property
    def sequential(self) -> bool:
        """Whether a step can be planned only once the one before it is over."""
        return not all(each.exact for each in self.timer.messages)

    def saved(self, reading: Reading) -> dict[str, Array]:
        """A reading as checkpoints keep it; seats without a job have client -1."""
        jobs = np.full((self.number, len(Job._fields)), -1.0)
        for row, job in zip(jobs, reading.jobs, strict=False):
            row[:] = job
        clock = np.array([reading.now, reading.down, reading.up, reading.begun])
        return {"clock": clock, "jobs": jobs}

    def loaded(self, saved: dict[str, Array]) -> Reading:
        """A reading that was ``saved``."""
        now, down, up, begun = map(float, saved["clock"])
        jobs = tuple(
            Job(float(end), int(client), int(first), bool(reports), float(begin))
            for end, client, first, reports, begin in np.asarray(saved["jobs"])
            if client >= 0
        )
        return Reading(now, down, up, int(begun), jobs)

    def plan(
        self, planner: Planner, number: int, before: Reading
    ) -> tuple[Array, Plan, Reading]:
        """Who sits where, the plan of the step, and the clock behind it."""
        jobs, now, begun = list(before.jobs), before.now, before.begun
        heapq.heapify(jobs)
        busy = {job.client for job in jobs}
        came: list[Job] = []
        stale: list[Job] = []
        lost: list[Job] = []
        in_vain = 0
        while len(came) < self.timer.wanted:
            free = self.number - len(jobs)
            if free and not (jobs and jobs[0].end <= now):
                fresh = self._draw(begun, free, busy, now)
                for job in self._begin(number, fresh, begun, now, before):
                    heapq.heappush(jobs, job)
                begun += len(fresh)
            job = heapq.heappop(jobs)
            now, in_vain = job.end, in_vain + 1
            if job.reports and number - job.round <= self.oldest:
                came.append(job)  # busy until the step
                in_vain = 0
                continue
            (stale if job.reports else lost).append(job)
            busy.discard(job.client)
            if in_vain >= _HOPELESS:
                raise InputError(
                    f"clock: none of {in_vain:,} clients in a row has reported; they "
                    "leave too soon, drop out too often, or are too late for "
                    "max_staleness"
                )
        came.sort(key=lambda job: job.client)
        ids = np.array([job.client for job in came], np.int32)
        left = tuple(sorted(jobs))
        after = Reading(now, before.down, before.up, begun, left)
        phase, none = self.phases.at(number), np.zeros(len(ids), int)
        found = self.timer.foreseen(ids, phase, before)
        sizes = self.timer.messages[phase].bytes_of(none, self.timer.sizes[ids])
        every = np.ones(len(ids), bool)
        choice = Choice(every, every, ~every, now - before.now, failed=False)
        staleness = np.array([number - job.round for job in came], np.int32)
        plan = Plan(
            ids, before.now, 0.0, found.compute, found, sizes, choice, staleness, after,
            self._wasted(number, before, stale, lost),
        )  # fmt: skip
        return planner.seats(number, ids), plan, after

    def _wasted(
        self, number: int, before: Reading, stale: list[Job], lost: list[Job]
    ) -> Wasted:
        """What those cost who did not become reports, as foreseen.

        One that is lost is taken to have received its message, and to have computed for
        as long as it was there.
        """
        jobs = stale + lost
        if not jobs:
            return Wasted()
        down, up = self._bytes(number, before)
        drawn = 0.0
        if self.timer.clock.power is not None:
            ids = np.array([job.client for job in jobs], np.int32)
            begin = np.array([job.begin for job in jobs])
            until = np.array([job.end for job in jobs]) - begin
            sends = np.arange(len(jobs)) < len(stale)
            found = self.timer.foreseen(ids, self.phases.at(number), before)
            each = self.timer.joules(
                ids, begin, found, np.where(sends, np.inf, until), sends,
                np.zeros(len(jobs)),
            )  # fmt: skip
            drawn = float(each.sum())
        return Wasted(len(stale), len(lost), down * len(jobs), up * len(stale), drawn)

    def _bytes(self, number: int, before: Reading) -> tuple[int, int]:
        known = self.timer.messages[self.phases.at(number)]
        if known.exact or not before.up:
            return known.down[0], known.up[0]
        return int(known.down[0] * before.down), int(known.up[0] * before.up)

    def _draw(self, begun: int, free: int, busy: set[int], now: float) -> list[int]:
        """Who begins, in the place of each job that has ended; ``busy`` from now on."""
        timer = self.timer
        found: list[int] = []
        activity = timer.clock.activity
        for place in range(begun, begun + free):
            for attempt in range(_TRIES):
                stream = place * _TRIES + attempt
                one = int(self.sampling(timer.seed, stream, timer.sizes, 1)[0])
                there = activity is None or activity.active(np.array([one]), now)[0]
                if one not in busy and there:
                    break
            else:
                if len(busy) == len(timer.sizes):
                    break
                one = self._any(place, busy, now)
            busy.add(one)
            found.append(one)
        return found

    def _any(self, place: int, busy: set[int], now: float) -> int:
        """One of those left, all alike; whoever comes next where none is there."""
        left = np.setdiff1d(np.arange(len(self.timer.sizes)), list(busy))
        activity = self.timer.clock.activity
        if activity is not None:
            begin = activity.next_with(left, 1, now)
            if not np.isfinite(begin):
                raise InputError("clock: none of the clients that could begin ever is")
            left = left[activity.active(left, begin)]
        chance = uniform(self.timer.seed, place, left, _TRIES)
        return int(left[np.argmin(chance)])

    def _begin(
        self, number: int, ids: list[int], begun: int, now: float, before: Reading
    ) -> list[Job]:
        """Jobs of clients that begin now; of nobody where nobody is left."""
        if not ids:
            return []
        timer, who = self.timer, np.array(ids, np.int32)
        needs = timer.foreseen(who, self.phases.at(number), before)
        timer.check(who, needs)
        places = np.arange(begun, begun + len(who))
        lost = uniform(timer.seed, 0, places, _DROPOUT) < timer.clock.dropout
        found, activity = [], timer.clock.activity
        for i in range(len(who)):
            one, span = who[i : i + 1], Spans(*(x[i : i + 1] for x in needs))
            begins = now if activity is None else activity.next_with(one, 1, now)
            (end,), (gone,) = timer.ends(one, begins, span, lost[i : i + 1])
            job = Job(begins + float(end), int(one[0]), number, not gone, begins)
            found.append(job)
        return found

    def settle(
        self,
        plans: tuple[Plan, ...],
        sizes: list[tuple[Array, Array]],
        before: Reading,
        kept: Array,
    ) -> list[Timed]:
        """The time of each step of a call: as it was foreseen, and of true bytes."""
        found, timer = [], self.timer
        for plan, (down, up) in zip(plans, sizes, strict=False):
            assert plan.staleness is not None
            assert plan.after is not None
            true = spans(timer.links[plan.ids], down, up, plan.compute)
            figures = timer.figures(plan, true, plan.choice.seconds)
            every = plan.choice.kept
            if timer.clock.power is not None:
                none = np.zeros(len(every))
                whole = np.full(len(every), np.inf)
                each = timer.joules(plan.ids, plan.begin, true, whole, every, none)
                figures["energy_joules"] = float(each.sum()) + plan.wasted.joules
            figures |= {
                "staleness": float(plan.staleness.mean()),
                "stale": plan.wasted.stale,
                "lost": plan.wasted.lost,
            }
            reading = timer.noted(plan.after, plan, down, up, before)
            self.last = Timed(every, every, figures, reading, true, plan)
            found.append(self.last)
        return found
