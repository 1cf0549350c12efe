"""Which client runs where: a cohort sorted by work and cut into chunks of lanes."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import jax
import numpy as np

DUMMY = -1
"""Client id of a lane that holds nobody."""


Sampling = Callable[[int, int, np.ndarray, int], np.ndarray]
"""(seed, round, sizes [clients], cohort) -> distinct client ids."""


def chunks_of(cohort: int, lanes: int, devices: int) -> int:
    """Number of chunks that each device runs in a round."""
    chunks = -(-cohort // lanes)
    return -(-chunks // devices)


def plan(
    ids: np.ndarray, sizes: np.ndarray, lanes: int, devices: int, chunks: int = 0
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

    Returns:
      int32 [devices * chunks, lanes]: every client of the cohort in exactly one lane,
      ``DUMMY`` in the others. Device d owns the rows d * chunks to
      (d + 1) * chunks - 1, in which work falls.
    """
    ids = np.asarray(ids, np.int32)
    order = ids[np.lexsort((ids, -sizes[ids]))]
    chunks = chunks or chunks_of(len(ids), lanes, devices)
    filled = np.full(chunks * devices * lanes, DUMMY, np.int32)
    filled[: len(order)] = order
    rows = filled.reshape(-1, lanes)
    if devices == 1:
        return rows
    work = [int(sizes[c[0]]) if c[0] != DUMMY else 0 for c in rows]
    dealt: list[list[int]] = [[] for _ in range(devices)]
    heap = [(0, d) for d in range(devices)]
    for chunk in range(len(rows)):
        load, d = heapq.heappop(heap)
        dealt[d].append(chunk)
        if len(dealt[d]) < chunks:
            heapq.heappush(heap, (load + work[chunk], d))
    return rows[np.concatenate([np.asarray(d, int) for d in dealt])]


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
    ):
        self.sampling, self.seed, self.sizes = sampling, seed, sizes
        self.cohort, self.lanes, self.devices, self.homes = (
            cohort, lanes, devices, homes,
        )  # fmt: skip
        most = min(cohort, -(-len(sizes) // homes))
        self.chunks = chunks_of(most, lanes, devices // homes)

    def __call__(self, number: int) -> np.ndarray:
        """int32 [devices * chunks, lanes]: who sits where in round ``number``."""
        ids = np.asarray(self.sampling(self.seed, number, self.sizes, self.cohort))
        each = self.devices // self.homes
        return np.concatenate(
            [
                plan(part, self.sizes, self.lanes, each, self.chunks)
                for part in (ids[ids % self.homes == h] for h in range(self.homes))
            ]
        )


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
