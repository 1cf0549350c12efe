"""Which client runs where: a cohort sorted by work and cut into chunks of lanes."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Sequence

import jax
import numpy as np

from fedjax_compress.checks.returned import describe, within
from fedjax_compress.clients import ClientData
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Tiers

DUMMY = -1
"""Client id of a lane that holds nobody."""


Sampling = Callable[[int, int, np.ndarray, int], np.ndarray]
"""(seed, round, sizes [clients], cohort) -> distinct client ids."""


def chunks_of(cohort: int, lanes: int, devices: int, tiers: int = 1) -> int:
    """Number of chunks that each device runs in a round, however tiers may fall."""
    tiers = min(tiers, cohort)
    chunks = tiers + (cohort - tiers) // lanes
    return -(-chunks // devices)


def plan(
    ids: np.ndarray,
    sizes: np.ndarray,
    lanes: int,
    devices: int,
    chunks: int = 0,
    tiers: np.ndarray | None = None,
    work: Sequence[float] = (1.0,),
) -> np.ndarray:
    """Sorts a cohort by number of rows and deals its chunks to the devices.

    The time of a chunk is that of its largest client, so clients of like size run
    together, and each next chunk goes to the device with the least work so far.

    Args:
      ids: int [cohort], distinct client ids.
      sizes: int [clients], rows of every client of the population.
      lanes: clients per chunk.
      devices: number of devices.
      chunks: chunks of each device; 0 takes as many as are needed.
      tiers: int [cohort], of each client; clients of two tiers share no chunk.
      work: of one row in each tier.

    Returns:
      int32 [devices * chunks, lanes]: every client of the cohort in exactly one lane,
      ``DUMMY`` in the others. Device d owns the rows d * chunks to
      (d + 1) * chunks - 1, in which work falls.
    """
    ids = np.asarray(ids, np.int32)
    tiers = np.zeros(len(ids), int) if tiers is None else np.asarray(tiers)
    full: list[tuple[float, np.ndarray]] = []
    for tier in np.unique(tiers):
        mine = ids[tiers == tier]
        order = mine[np.lexsort((mine, -sizes[mine]))]
        for i in range(0, len(order), lanes):
            row = np.full(lanes, DUMMY, np.int32)
            row[: len(order[i : i + lanes])] = order[i : i + lanes]
            full.append((float(sizes[row[0]]) * work[tier], row))
    full.sort(key=lambda pair: -pair[0])
    chunks = chunks or -(-len(full) // devices)
    blank = (0.0, np.full(lanes, DUMMY, np.int32))
    full += [blank] * (chunks * devices - len(full))
    rows = np.stack([row for _, row in full])
    if devices == 1:
        return rows
    dealt: list[list[int]] = [[] for _ in range(devices)]
    heap = [(0.0, d) for d in range(devices)]
    for chunk in range(len(rows)):
        load, d = heapq.heappop(heap)
        dealt[d].append(chunk)
        if len(dealt[d]) < chunks:
            heapq.heappush(heap, (load + full[chunk][0], d))
    return rows[np.concatenate([np.asarray(d, int) for d in dealt])]


def check_ids(found: object, cohort: int, clients: int, number: int) -> np.ndarray:
    """What a sampling has drawn, as int32 [cohort].

    Args:
      found: as it came back.
      cohort: how many it should be.
      clients: of the population.
      number: of the round, from 0.

    Raises:
      InputError: no whole numbers, more or fewer than asked for, one that is no client,
        or one that comes twice.
    """
    ids = np.asarray(found)
    where = f"sampling, round {number + 1}:"
    if ids.dtype == bool or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"{where} client ids must be whole numbers, int[{cohort}], not "
            f"{describe(ids)}"
        )
    if ids.shape != (cohort,):
        raise InputError(
            f"{where} the cohort must be {cohort} client ids, [{cohort}], not "
            f"{describe(ids)}"
        )
    if not 0 <= ids.min() <= ids.max() < clients:
        wrong = ids[(ids < 0) | (ids >= clients)][0]
        raise InputError(f"{where} client ids must be 0 to {clients - 1}, not {wrong}")
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < cohort:
        raise InputError(
            f"{where} client ids must be distinct; {values[counts > 1][0]} comes "
            f"{counts.max()} times"
        )
    return ids.astype(np.int32)


class Planner:
    """Draws and lays out the cohort of a round; the same on every process.

    Args:
      sampling: draws a cohort.
      seed: of the run.
      sizes: int [clients].
      cohort: clients per round.
      lanes: clients per chunk.
      devices: of all processes.
      homes: number of processes if a client must always run on the same one, the
        one that keeps its state: client id modulo ``homes``; else 1.
      tiers: of clients of unequal kinds, or None.
    """

    def __init__(
        self,
        sampling: Sampling,
        seed: int,
        sizes: np.ndarray,
        cohort: int,
        lanes: int,
        devices: int,
        homes: int = 1,
        tiers: Tiers | None = None,
    ):
        self.tiers = tiers
        self.sampling, self.seed, self.sizes = sampling, seed, sizes
        self.cohort, self.lanes, self.devices, self.homes = (
            cohort, lanes, devices, homes,
        )  # fmt: skip
        most = min(cohort, -(-len(sizes) // homes))
        kinds = 1 if tiers is None else len(tiers.each)
        self.chunks = chunks_of(most, lanes, devices // homes, kinds)

    def __call__(self, number: int, among: np.ndarray | None = None) -> np.ndarray:
        """int32 [devices * chunks, lanes]: who sits where in round ``number``.

        Args:
          number: of the round, from 0.
          among: int32 [n], the clients of whom the cohort is drawn; None for all.
        """
        sizes = self.sizes if among is None else self.sizes[among]
        with within("the sampling"):
            ids = self.sampling(self.seed, number, sizes, self.cohort)
        ids = check_ids(ids, self.cohort, len(sizes), number)
        return self.seats(number, ids if among is None else among[ids])

    def seats(self, number: int, ids: np.ndarray) -> np.ndarray:
        """The same for a cohort that has been drawn."""
        each = self.devices // self.homes
        tiers = self.tiers_of(number, ids)
        work = (1.0,) if self.tiers is None else self.tiers.work
        parts = [ids % self.homes == home for home in range(self.homes)]
        return np.concatenate(
            [
                plan(ids[p], self.sizes, self.lanes, each, self.chunks, tiers[p], work)
                for p in parts
            ]
        )

    def tiers_of(self, number: int, ids: np.ndarray) -> np.ndarray:
        """int32, the tier of each client in round ``number``; 0 for a dummy."""
        if self.tiers is None:
            return np.zeros(ids.shape, np.int32)
        who = np.where(ids == DUMMY, 0, ids)
        found = np.asarray(self.tiers.of(self.seed, number, who))
        whole = np.issubdtype(found.dtype, np.integer) and found.shape == who.shape
        kinds = len(self.tiers.each)
        wrong = found[(found < 0) | (found >= kinds)] if whole else found
        if not whole or wrong.size:
            shown = wrong[0] if whole else describe(found)
            raise InputError(
                f"round {number + 1}: the tiers of {who.size} clients must be whole "
                f"numbers from 0 to {kinds - 1}, not {shown}"
            )
        found = found.astype(np.int32)
        return np.where(ids == DUMMY, 0, found)


def choose_lanes(parameters: int, cohort: int, devices: int, platform: str) -> int:
    """A default for the number of clients that run side by side on one device.

    Measured on two CPU cores, a device each: 8 to 16 lanes are best for a dense model
    of 48,670 parameters, one for networks of a million. An accelerator wants as many as
    memory holds; there, lanes are bounded so that eight copies of the parameters
    per lane stay under 8 GiB.
    """
    if platform == "cpu":
        limit = max(1, min(32, 1_000_000 // max(parameters, 1)))
    else:
        limit = max(1, min(512, 2**33 // (32 * max(parameters, 1))))
    lanes = 1 << (limit.bit_length() - 1)
    share = -(-cohort // devices)
    return max(1, min(lanes, share))


def choose_devices(cohort: int) -> int:
    """A default for the number of devices: all there are, but no more than clients.

    A CPU whose cores appear as a device each runs as many clients at once, each on one
    thread. Measured on two cores, rounds of the workloads of ``bench`` take 0.5 to
    0.95 of the time that one device takes which uses both.
    """
    processes = jax.process_count()
    owners = [device.process_index for device in jax.devices()]
    each = min(owners.count(process) for process in range(processes))
    return max(1, min(cohort // processes, each)) * processes


def first_cohort(sampling: Sampling, seed: int, sizes: np.ndarray, cohort: int) -> str:
    """A digest of the clients of the first round, whatever their order.

    Raises:
      InputError: the sampling gives something else than a cohort.
    """
    with within("the sampling"):
        drawn = sampling(seed, 0, sizes, cohort)
    ids = np.sort(check_ids(drawn, cohort, len(sizes), 0))
    return hashlib.sha256(ids.tobytes()).hexdigest()


RESIDENT_LIMIT = 2**31
"""Rows, or client states, of at most this many bytes live on the device."""


def streams(data: ClientData, limit: int) -> bool:
    """Whether the rows stay on the host."""
    columns = jax.tree.leaves(data)
    mapped = any(isinstance(c, np.memmap) for c in columns)
    return mapped or sum(c.nbytes for c in columns) > limit


def check_sizes(cohort: int, clients: int, lanes: int, rounds_per_call: int) -> None:
    """Raises InputError unless a simulator can be made with these numbers."""
    if not 1 <= cohort <= clients:
        raise InputError(
            f"the cohort must be 1 to {clients} clients (the population), got {cohort}"
        )
    if lanes < 0:
        raise InputError(f"lanes must not be negative (0 chooses), got {lanes}")
    if rounds_per_call < 1:
        raise InputError(f"rounds_per_call must be at least 1, got {rounds_per_call}")
