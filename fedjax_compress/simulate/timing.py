"""Virtual time of the rounds of a run: planned before each, settled by true bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_compress import tree
from fedjax_compress.clock import Choice, Clock, Spans, choose, spans, uniform
from fedjax_compress.errors import InputError
from fedjax_compress.simulate.chunk import BEFORE, COUNTED, REACHED
from fedjax_compress.simulate.foresee import Messages
from fedjax_compress.simulate.plan import DUMMY, Planner
from fedjax_compress.typing import Params

Array = np.ndarray
_DROPOUT = 0x44524F50
_TRAINING = 6
"""Operations of training for each multiply-accumulate of a forward pass."""


class Work(NamedTuple):
    """What clients compute in a phase.

    Attributes:
      rows: number of a client's rows -> how many it learns from, each as often as it is
        seen; arrays.
      macs: multiply-accumulates of a forward pass on one row, for each tier.
      parameters: that are decoded and encoded, for each tier.
    """

    rows: Callable[[Array], Array]
    macs: tuple[float, ...]
    parameters: tuple[int, ...]


class Reading(NamedTuple):
    """Where the clock stands after a round; kept in checkpoints.

    Attributes:
      now: virtual seconds since the run began.
      up: mean bytes of the last round's reports; 0 before there are any, and where all
        sizes are known beforehand.
    """

    now: float = 0.0
    up: float = 0.0


class Plan(NamedTuple):
    """A round as it is foreseen.

    Attributes:
      ids: int32 [n], those invited, ascending.
      begin: when the round begins.
      waited: seconds until so many clients were there.
      compute: float64 [n], seconds.
      spans: foreseen.
      choice: whose report counts, and for how long the round is foreseen to last.
    """

    ids: Array
    begin: float
    waited: float
    compute: Array
    spans: Spans
    choice: Choice

    @property
    def end(self) -> Reading:
        """The clock behind it, as foreseen; right where sizes are."""
        return Reading(self.begin + self.choice.seconds)


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
        work, known = self.work[phase], self.messages[phase]
        operations = self.clock.coding * 2.0 * np.asarray(work.parameters)[tiers]
        rows = np.asarray(work.rows(self.sizes[ids]), float)
        operations = operations + _TRAINING * np.asarray(work.macs)[tiers] * rows
        compute = operations / self.speeds[ids] + rows * self.row_seconds[ids]
        up = np.asarray(known.up, float)[tiers]
        if not known.exact and before.up:
            up = up * before.up / up.mean()
        found = spans(self.links[ids], np.asarray(known.down)[tiers], up, compute)
        chance = uniform(self.seed, number, ids, _DROPOUT)
        lost = chance < self.clock.dropout
        choice = choose(
            ids, self._finish(ids, begin, found), lost, self.wanted,
            self.clock.deadline, self.clock.least,
        )  # fmt: skip
        return Plan(ids, begin, begin - before.now, compute, found, choice)

    def _finish(self, ids: Array, begin: float, found: Spans) -> Array:
        """Seconds from the beginning of a round to each report."""
        activity = self.clock.activity
        if activity is None:
            return found.total
        return activity.finish(ids, begin, found.total) - begin

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
        finish, used = self._finish(plan.ids, begin, found), choice.kept
        seconds = choice.seconds
        late = clock.deadline < math.inf and used.sum() < self.wanted
        if clock.layers is not None:
            assert kept is not None
            seconds = clock.layers.seconds(kept)
            finish = np.full(len(plan.ids), seconds)
            found = Spans(0 * finish, finish, 0 * finish)
        elif used.any() and not late:
            seconds = float(finish[used].max())
        before_up = found.download + found.compute
        sent = ~choice.lost & (used | (before_up < seconds))
        share = lambda x: float(x[used].mean()) if used.any() else 0.0  # noqa: E731
        figures: dict[str, Any] = {
            "virtual_seconds": plan.waited + seconds,
            "download_seconds": share(found.download),
            "compute_seconds": share(found.compute),
            "upload_seconds": share(found.upload),
            "waiting_seconds": share(seconds - found.total),
        }
        if clock.power is not None:
            joules = self._joules(plan.ids, found, seconds, choice)
            figures["energy_joules"] = float(joules.sum())
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

    def in_use(self, seen: dict[str, Any], params: Params) -> Array:
        """Parameters in use in each layer, int64, for a clock of layers.

        Args:
          seen: what the algorithm observes of the server; all are in use where there is
            no density of a layer.
          params: the model's.

        Raises:
          InputError: the clock has times for another number of weight tensors.
        """
        layers = self.clock.layers
        assert layers is not None
        found = {
            path: leaf.size
            for path, leaf in zip(tree.paths(params), jax.tree.leaves(params))  # noqa: B905
            if leaf.ndim > 1
        }
        if len(found) != layers.layers:
            raise InputError(
                f"clock: {layers.name} has times for {layers.layers} weight tensors, "
                f"the model has {len(found)}"
            )
        shares = [float(seen.get(f"density/{path}", 1.0)) for path in found]
        return np.rint(np.array(shares) * np.array(list(found.values()))).astype(int)


class Watch:
    """Plans one round after the other, as ``Supplier`` needs them.

    Args:
      timer: reads the clock.
      phase_at: finished rounds -> number of the phase.

    Attributes:
      chooses: whether any client may not count.
    """

    def __init__(self, timer: Timer, phase_at: Callable[[int], int]):
        self.timer, self.phase_at = timer, phase_at
        self.chooses = timer.clock.chooses

    def __call__(
        self, planner: Planner, number: int, before: Reading
    ) -> tuple[Array, Plan, Reading]:
        """Who sits where, the plan of the round, and the clock behind it as foreseen."""
        among, begin = self.timer.candidates(before.now)
        seats = planner(number, among)
        ids = np.sort(seats[seats != DUMMY])
        tiers = planner.tiers_of(number, ids)
        phase = self.phase_at(number)
        plan = self.timer.plan(number, ids, tiers, phase, before, begin)
        return seats, plan, plan.end

    def fates(self, plan: Plan, ids: Array) -> Array:
        """int8 like ``ids``: what becomes of the client of each lane."""
        place = np.minimum(np.searchsorted(plan.ids, ids), len(plan.ids) - 1)
        other = REACHED if self.timer.clock.keeps else BEFORE
        return np.where(plan.choice.kept[place], COUNTED, other).astype(np.int8)


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
