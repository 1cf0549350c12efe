"""The clock of a run as the engine reads it: before each call, and after it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fedjax_compress import tree
from fedjax_compress.clients import ClientData
from fedjax_compress.clock import Layers
from fedjax_compress.errors import InputError
from fedjax_compress.simulate.chunk import BEFORE, COUNTED, REACHED
from fedjax_compress.simulate.foresee import messages
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.plan import DUMMY, Planner, Sampling
from fedjax_compress.simulate.readings import Plan, Reading, Timed
from fedjax_compress.simulate.timing import Timer
from fedjax_compress.typing import Metrics, Params

Array = np.ndarray


class Watch:
    """Plans the time of rounds, and settles it.

    Args:
      timer: reads the clock.
      phases: of the run.

    Attributes:
      chooses: whether any client may not count.
      last: the last round, as it was; None before there is any.
    """

    def __init__(self, timer: Timer, phases: Phases):
        self.timer, self.phases = timer, phases
        self.chooses = timer.clock.chooses
        self.last: Timed | None = None

    def foresee(self, data: ClientData, params: Params) -> None:
        """Traces the messages of each phase for their sizes; compiles nothing."""
        each = self.phases.algorithms
        self.timer.messages = [messages(a, data, params) for a in each]

    @property
    def sequential(self) -> bool:
        """Whether a round can be planned only once the one before it is over."""
        return self.timer.sequential

    def saved(self, reading: Reading) -> dict[str, Array]:
        """A reading as checkpoints keep it."""
        return {"clock": np.array([reading.now, reading.down, reading.up])}

    def loaded(self, saved: dict[str, Array]) -> Reading:
        """A reading that was ``saved``."""
        now, down, up = map(float, saved["clock"])
        return Reading(now, down, up)

    def plan(
        self, planner: Planner, number: int, before: Reading
    ) -> tuple[Array, Plan, Reading]:
        """Who sits where, the plan of the round, and the clock behind it, foreseen."""
        among, begin = self.timer.candidates(before.now)
        seats = planner(number, among)
        ids = np.sort(seats[seats != DUMMY])
        tiers = planner.tiers_of(number, ids)
        phase = self.phases.at(number)
        plan = self.timer.plan(number, ids, tiers, phase, before, begin)
        return seats, plan, plan.end

    def fates(self, plan: Plan, ids: Array) -> Array:
        """int8 like ``ids``: what becomes of the client of each lane."""
        place = np.minimum(np.searchsorted(plan.ids, ids), len(plan.ids) - 1)
        other = REACHED if self.timer.clock.keeps else BEFORE
        return np.where(plan.choice.kept[place], COUNTED, other).astype(np.int8)

    def in_use(self, seen: Metrics, params: Params) -> Array:
        """Parameters in use in each layer, int64; none but for a clock of layers.

        Args:
          seen: what the algorithm observes of the server before the round.
          params: the model's.
        """
        layers = self.timer.clock.layers
        return np.zeros(0, int) if layers is None else _in_use(layers, seen, params)

    def settle(
        self,
        plans: tuple[Plan, ...],
        sizes: list[tuple[Array, Array]],
        before: Reading,
        kept: Array,
    ) -> list[Timed]:
        """The time of each round of a call.

        Args:
          plans: as they were foreseen.
          sizes: bytes down and up of each client, for each round that was run.
          before: the clock before the first.
          kept: as ``in_use`` gives it.
        """
        found = []
        for plan, (down, up) in zip(plans, sizes, strict=False):
            self.last = self.timer.settle(plan, down, up, before, kept)
            before = self.last.reading
            found.append(self.last)
        return found


def ages(plan: Plan, ids: Array) -> Array:
    """int32 like ``ids``: rounds since the client of each lane has begun."""
    assert plan.staleness is not None
    place = np.minimum(np.searchsorted(plan.ids, ids), len(plan.ids) - 1)
    return plan.staleness[place]


def watch_of(timer: Timer, phases: Phases, sampling: Sampling) -> Watch:
    """The clock of rounds, or that of an algorithm that does not wait."""
    from fedjax_compress.simulate.deliveries import Deliveries

    if phases.algorithms[0].asynchronous is None:
        return Watch(timer, phases)
    return Deliveries(timer, phases, sampling)


def _in_use(layers: Layers, seen: dict[str, Any], params: Params) -> Array:
    """All of a layer's are where there is no density of it.

    Raises:
      InputError: the clock has times for another number of weight tensors.
    """
    pairs = zip(tree.paths(params), jax.tree.leaves(params), strict=True)
    sizes = {path: leaf.size for path, leaf in pairs if leaf.ndim > 1}
    if len(sizes) != layers.layers:
        raise InputError(
            f"clock: {layers.name} has times for {layers.layers} weight tensors, the "
            f"model has {len(sizes)}"
        )
    shares = [float(seen.get(f"density/{path}", 1.0)) for path in sizes]
    return np.rint(np.array(shares) * np.array(list(sizes.values()))).astype(int)
