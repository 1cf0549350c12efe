"""What a round needs from the host, made ready while the round before computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from fedjax_compress.clients import ClientData
from fedjax_compress.simulate.plan import DUMMY, Planner
from fedjax_compress.simulate.state_buffers import StateBuffer
from fedjax_compress.simulate.states import HostStates
from fedjax_compress.simulate.streaming import Stream


class Supply(NamedTuple):
    """What one call of the program is fed.

    Attributes:
      first: number of rounds finished before.
      rounds: how many rounds it is for.
      ids: int32 [most rounds, chunks, lanes], client ids of all devices' lanes.
      places: likewise, where each client's rows stand in the data at hand.
      slots: likewise, where each client's state stands in a resident store; out of
        range for a dummy.
      tiers: likewise, the tier of each client; None where there are no tiers.
      data: the cohort's rows on the devices; None where all rows are resident.
      states: the cohort's states; None where they are resident or there are none.
    """

    first: int
    rounds: int
    ids: np.ndarray
    places: np.ndarray
    slots: np.ndarray
    tiers: np.ndarray | None
    data: ClientData | None
    states: StateBuffer | None


class Supplier:
    """Makes supplies in a thread of its own, one ahead of the one in use.

    Everything a supply holds follows from seed and round, but for the states of
    clients that take part twice running; ``HostStates.renew`` sees to those.

    Args:
      planner: who sits where in a round.
      most: rounds that one call can hold.
      clients: size of the population.
      stream: reads the cohort's rows; None where all rows are resident.
    """

    def __init__(
        self, planner: Planner, most: int, clients: int, stream: Stream | None
    ):
        self.planner, self.most, self.clients = planner, most, clients
        self.stream = stream
        self.states: HostStates | None = None
        self.worker = ThreadPoolExecutor(1, "supply")
        self._next: tuple[tuple[int, int], Future[Supply]] | None = None

    def take(self, first: int, rounds: int) -> Supply:
        """The supply for these rounds: the one made ahead, if it is for them."""
        ahead, self._next = self._next, None
        if ahead is not None and ahead[0] == (first, rounds):
            return ahead[1].result()
        return self.worker.submit(self._make, first, rounds).result()

    def begin(self, first: int, rounds: int) -> None:
        """Starts to make the supply for these rounds."""
        made = self.worker.submit(self._make, first, rounds)
        self._next = (first, rounds), made

    def forget(self) -> None:
        """Drops the supply made ahead: client states are about to be replaced."""
        self._next = None

    def _make(self, first: int, rounds: int) -> Supply:
        plans = [self.planner(first + i) for i in range(rounds)]
        blank = np.full_like(plans[0], DUMMY)
        ids = np.stack(plans + [blank] * (self.most - rounds))
        slots = np.where(ids == DUMMY, self.clients, ids)
        places, data = slots, None
        if self.stream is not None:
            places, data = self.stream(ids)
        states = None if self.states is None else self.states.gather(ids)
        tiers = None
        if self.planner.tiers is not None:
            each = enumerate(ids)
            tiers = np.stack([self.planner.tiers_of(first + i, row) for i, row in each])
        return Supply(first, rounds, ids, places, slots, tiers, data, states)
