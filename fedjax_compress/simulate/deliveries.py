"""Clients that nobody waits for: who delivers next, by the clock."""

from __future__ import annotations

import heapq

import numpy as np

from fedjax_compress.clock import Choice, Spans, uniform
from fedjax_compress.errors import InputError
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.plan import Planner, Sampling
from fedjax_compress.simulate.timing import Plan, Reading, Timed, Timer, Wasted
from fedjax_compress.simulate.watch import Watch

Array = np.ndarray
Job = tuple[float, int, int, bool]
"""When it ends, the client, the round in which it has begun, whether it reports."""
_DROPOUT = 0x44524F50
_TRIES = 64


class Deliveries(Watch):
    """Plans the deliveries between two steps of the server.

    Times follow from sizes as they are foreseen, so that the order does. A client
    begins where one has ended, unless it is at work or has delivered since the last
    step: where nobody is left, its place stays empty until one is. Deliveries at the
    same instant come before those who begin then.

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
        most = max(1, clients - timer.wanted)
        self.oldest, self.sampling = found.max_staleness, sampling
        self.number = found.concurrency or min(10 * timer.wanted, most)
        if self.number > clients:
            raise InputError(
                f"concurrency is {self.number}, and there are only {clients} clients"
            )
        self.chooses = False

    def saved(self, reading: Reading) -> dict[str, Array]:
        """A reading as checkpoints keep it; seats without a job have client -1."""
        jobs = np.full((self.number, 4), -1.0)
        for row, job in zip(jobs, reading.jobs, strict=False):
            row[:] = job
        clock = np.array([reading.now, reading.up, reading.begun])
        return {"clock": clock, "jobs": jobs}

    def loaded(self, saved: dict[str, Array]) -> Reading:
        """A reading that was ``saved``."""
        now, up, begun = map(float, saved["clock"])
        jobs = tuple(
            (float(end), int(client), int(first), bool(reports))
            for end, client, first, reports in np.asarray(saved["jobs"])
            if client >= 0
        )
        return Reading(now, up, int(begun), jobs)

    def plan(
        self, planner: Planner, number: int, before: Reading
    ) -> tuple[Array, Plan, Reading]:
        """Who sits where, the plan of the step, and the clock behind it."""
        jobs, now, begun = list(before.jobs), before.now, before.begun
        heapq.heapify(jobs)
        came: list[Job] = []
        wasted = Wasted()
        down, up = self._bytes(number, before)
        while len(came) < self.timer.wanted:
            free = self.number - len(jobs)
            if free and not (jobs and jobs[0][0] <= now):
                busy = {job[1] for job in jobs} | {job[1] for job in came}
                fresh = self._draw(begun, free, busy, now)
                for job in self._begin(number, fresh, begun, now, before):
                    heapq.heappush(jobs, job)
                begun += len(fresh)
            job = heapq.heappop(jobs)
            now = job[0]
            if not job[3]:
                wasted = wasted._replace(lost=wasted.lost + 1, down=wasted.down + down)
            elif number - job[2] > self.oldest:
                wasted = Wasted(
                    wasted.stale + 1, wasted.lost, wasted.down + down, wasted.up + up
                )
            else:
                came.append(job)
        came.sort(key=lambda job: job[1])
        ids = np.array([job[1] for job in came], np.int32)
        after = Reading(now, before.up, begun, tuple(sorted(jobs)))
        spans = self.timer.foreseen(number, ids, self.phases.at(number), before)
        every = np.ones(len(ids), bool)
        choice = Choice(every, ~every, now - before.now, failed=False)
        staleness = np.array([number - job[2] for job in came], np.int32)
        plan = Plan(
            ids, before.now, 0.0, spans.compute, spans, choice, staleness, after, wasted
        )
        return planner.seats(number, ids), plan, after

    def _bytes(self, number: int, before: Reading) -> tuple[int, int]:
        known = self.timer.messages[self.phases.at(number)]
        up = known.up[0] if known.exact or not before.up else before.up
        return known.down[0], int(up)

    def _draw(self, begun: int, free: int, busy: set[int], now: float) -> list[int]:
        """Who begins, in the place of each job that has ended."""
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
            busy = busy | {one}
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
        """Jobs of clients that begin now."""
        timer, who = self.timer, np.array(ids, np.int32)
        spans = timer.foreseen(number, who, self.phases.at(number), before)
        places = np.arange(begun, begun + len(who))
        lost = uniform(timer.seed, 0, places, _DROPOUT) < timer.clock.dropout
        found, activity = [], timer.clock.activity
        for i in range(len(who)):
            one, span = who[i : i + 1], Spans(*(x[i : i + 1] for x in spans))
            begins = now if activity is None else activity.next_with(one, 1, now)
            (end,), (gone,) = timer.ends(one, begins, span, lost[i : i + 1])
            found.append((begins + float(end), int(one[0]), number, not gone))
        return found

    def settle(
        self,
        plans: tuple[Plan, ...],
        sizes: list[tuple[Array, Array]],
        before: Reading,
        kept: Array,
    ) -> list[Timed]:
        """The time of each step of a call, as it was foreseen."""
        found = []
        for plan, (_, up) in zip(plans, sizes, strict=False):
            assert plan.staleness is not None
            assert plan.after is not None
            spans: Spans = plan.spans
            figures = self.timer.figures(plan, spans, plan.choice.seconds)
            figures |= {
                "staleness": float(plan.staleness.mean()),
                "stale": plan.wasted.stale,
                "lost": plan.wasted.lost,
            }
            reading = plan.after
            if not all(each.exact for each in self.timer.messages):
                reading = reading._replace(up=float(np.mean(up)))
            every = plan.choice.kept
            self.last = Timed(every, every, figures, reading, spans, plan)
            found.append(self.last)
        return found
