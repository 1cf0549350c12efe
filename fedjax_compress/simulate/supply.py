"""What a round needs from the host, made ready while the round before computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from fedjax_compress.clients import ClientData
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.plan import DUMMY, Planner
from fedjax_compress.simulate.readings import Plan, Reading
from fedjax_compress.simulate.states import HostStates, StateBuffer
from fedjax_compress.simulate.watch import Watch, ages

_LINE = 64
"""Bytes to which JAX wants memory aligned that it is to use in place."""


class Stream:
    """Reads the rows of a cohort and puts them on the devices.

    Each process reads the rows of its own devices' clients only. The buffers are as
    large as the largest clients could ever need, so that no round compiles anew. They
    are aligned, and the CPU's devices use them in place: what is not filled is never
    touched there.

    Args:
      data: all clients' rows, host arrays; memory-mapped ones stay on the disk.
      placement: the devices.
      seats: lanes that one device runs in a round.
    """

    def __init__(self, data: ClientData, placement: Placement, seats: int):
        self.data, self.placement, self.seats = data, placement, seats
        sizes = data.sizes
        seats = min(seats, len(sizes))
        most = int(np.partition(sizes, -seats)[-seats:].sum())
        self.capacity = max(1, -(-most // _LINE)) * _LINE

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, ClientData]:
        """Where each lane's rows stand, and the rows.

        Args:
          ids: int32 [1, chunks of all devices, lanes].

        Returns:
          int32 places of the shape of ``ids``, and the rows of each device.
        """
        devices = self.placement.devices
        each = ids.reshape(devices, -1)
        own = each[self.placement.own]
        columns = {
            name: _zeros((len(own) * self.capacity, *c.shape[1:]), c.dtype)
            for name, c in self.data.columns.items()
        }
        offsets = np.zeros((len(own), self.seats + 1), np.int32)
        for device, clients in enumerate(own):
            rows = slice(device * self.capacity, (device + 1) * self.capacity)
            mine = {name: column[rows] for name, column in columns.items()}
            self._fill(clients, mine, offsets[device])
        local = np.where(each == DUMMY, self.seats, np.arange(self.seats))
        made = columns, offsets.reshape(-1)
        cohort: ClientData = ClientData(*self.placement.spread(made))
        return local.reshape(ids.shape).astype(np.int32), cohort

    def _fill(
        self,
        clients: np.ndarray,
        columns: dict[str, np.ndarray],
        offsets: np.ndarray,
    ) -> None:
        data, end = self.data, 0
        begins = np.asarray(data.offsets)
        for seat, client in enumerate(clients):
            if client != DUMMY:
                start, stop = int(begins[client]), int(begins[client + 1])
                rows = (
                    slice(start, stop) if data.rows is None else data.rows[start:stop]
                )
                fresh = slice(end, end + stop - start)
                for name, column in columns.items():
                    column[fresh] = data.columns[name][rows]
                end = fresh.stop
            offsets[seat + 1] = end


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Aligned zeros, of pages that are not there before they are written."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(dtype).reshape(shape)


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
      fates: int8 like ``ids``, what becomes of each client; None where all count.
      plans: of each round's time; none without a clock.
      staleness: int32 like ``ids``; None where all begin with the round.
    """

    first: int
    rounds: int
    ids: np.ndarray
    places: np.ndarray
    slots: np.ndarray
    tiers: np.ndarray | None
    data: ClientData | None
    states: StateBuffer | None
    fates: np.ndarray | None = None
    plans: tuple[Plan, ...] = ()
    staleness: np.ndarray | None = None


class Supplier:
    """Makes supplies in a thread of its own, one ahead of the one in use.

    Everything a supply holds follows from seed and round, but for the states of
    clients that take part twice running; ``HostStates.renew`` sees to those.

    Args:
      planner: who sits where in a round.
      most: rounds that one call can hold.
      clients: size of the population.
      stream: reads the cohort's rows; None where all rows are resident.
      watch: plans the time of rounds; None without a clock.
    """

    def __init__(
        self,
        planner: Planner,
        most: int,
        clients: int,
        stream: Stream | None,
        watch: Watch | None = None,
    ):
        self.planner, self.most, self.clients = planner, most, clients
        self.stream, self.watch = stream, watch
        self.states: HostStates | None = None
        self.worker = ThreadPoolExecutor(1, "supply")
        self._next: tuple[tuple, Future[Supply]] | None = None

    def take(self, first: int, rounds: int, before: Reading) -> Supply:
        """The supply for these rounds: the one made ahead, if it is for them.

        Args:
          first: rounds finished.
          rounds: how many follow.
          before: the clock then.
        """
        ahead, self._next = self._next, None
        if ahead is not None and ahead[0] == self._name(first, rounds, before):
            return ahead[1].result()
        return self.worker.submit(self._make, first, rounds, before).result()

    def begin(self, first: int, rounds: int, before: Reading) -> None:
        """Starts to make the supply for these rounds."""
        made = self.worker.submit(self._make, first, rounds, before)
        self._next = self._name(first, rounds, before), made

    def _name(self, first: int, rounds: int, before: Reading) -> tuple:
        """What a supply is for; the clock has a say only where it chooses."""
        chooses = self.watch is not None and self.watch.chooses
        return first, rounds, before if chooses else None

    def forget(self) -> None:
        """Drops the supply made ahead: client states are about to be replaced."""
        self._next = None

    def _make(self, first: int, rounds: int, before: Reading) -> Supply:
        seats, plans = [], []
        for number in range(first, first + rounds):
            if self.watch is None:
                seats.append(self.planner(number))
                continue
            row, plan, before = self.watch.plan(self.planner, number, before)
            seats.append(row)
            plans.append(plan)
        blank = np.full_like(seats[0], DUMMY)
        ids = np.stack(seats + [blank] * (self.most - rounds))
        slots = np.where(ids == DUMMY, self.clients, ids)
        places, data = slots, None
        if self.stream is not None:
            places, data = self.stream(ids)
        states = None if self.states is None else self.states.gather(ids)
        tiers = fates = staleness = None
        if self.planner.tiers is not None:
            each = enumerate(ids)
            tiers = np.stack([self.planner.tiers_of(first + i, row) for i, row in each])
        if self.watch is not None and self.watch.chooses:
            fates = _of_lanes(ids, plans, self.watch.fates, np.int8)
        if plans and plans[0].staleness is not None:
            staleness = _of_lanes(ids, plans, ages, np.int32)
        made = Supply(first, rounds, ids, places, slots, tiers, data, states)
        return made._replace(fates=fates, plans=tuple(plans), staleness=staleness)


def _of_lanes(
    ids: np.ndarray, plans: list[Plan], of: Callable[..., np.ndarray], dtype: Any
) -> np.ndarray:
    """What each round's plan says of the client of each lane; 0 where none is."""
    found = np.zeros(ids.shape, dtype)
    for row, who, plan in zip(found, ids, plans, strict=False):
        row[:] = of(plan, who)
    return found
