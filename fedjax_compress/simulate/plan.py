"""Which client runs where: a cohort sorted by work and cut into chunks of lanes."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

DUMMY = -1
"""Client id of a lane that holds nobody."""


class Plan(NamedTuple):
    """One round's cohort, laid out for the compiled program.

    Invariants: every client of the cohort stands in exactly one lane; the other lanes
    hold ``DUMMY``. Within a device chunks are sorted by falling work.

    Attributes:
      ids: int32 [devices * chunks, lanes], client ids; device d owns the rows
        d * chunks to (d + 1) * chunks - 1.
    """

    ids: np.ndarray


def chunks_of(cohort: int, lanes: int, devices: int) -> int:
    """Number of chunks that each device runs in a round."""
    chunks = -(-cohort // lanes)
    return -(-chunks // devices)


def plan(ids: np.ndarray, sizes: np.ndarray, lanes: int, devices: int) -> Plan:
    """Sorts a cohort by number of rows and deals its chunks to the devices.

    The time of a chunk is that of its largest client, so clients of like size run
    together, and each next chunk goes to the device with the least work so far.

    Args:
      ids: int [cohort], distinct client ids.
      sizes: int [clients], rows of every client of the population.
      lanes: clients per chunk.
      devices: number of devices.
    """
    ids = np.asarray(ids, np.int32)
    order = ids[np.lexsort((ids, -sizes[ids]))]
    per_device = chunks_of(len(ids), lanes, devices)
    filled = np.full(per_device * devices * lanes, DUMMY, np.int32)
    filled[: len(order)] = order
    chunks = filled.reshape(-1, lanes)
    if devices == 1:
        return Plan(chunks)
    work = [int(sizes[c[0]]) if c[0] != DUMMY else 0 for c in chunks]
    dealt: list[list[int]] = [[] for _ in range(devices)]
    heap = [(0, d) for d in range(devices)]
    for chunk in range(len(chunks)):
        load, d = heapq.heappop(heap)
        dealt[d].append(chunk)
        if len(dealt[d]) < per_device:
            heapq.heappush(heap, (load + work[chunk], d))
    return Plan(chunks[np.concatenate([np.asarray(d, int) for d in dealt])])


def choose_lanes(parameters: int, cohort: int, devices: int, platform: str) -> int:
    """A default for the number of clients that run side by side on one device.

    Measured on two CPU cores: 32 lanes are best for a dense model of 48,670
    parameters, 1 to 4 for networks of a million. An accelerator wants as many as
    memory holds; there, lanes are bounded so that eight copies of the parameters
    per lane stay under 8 GiB.
    """
    if platform == "cpu":
        limit = max(1, min(32, 2_000_000 // max(parameters, 1)))
    else:
        limit = max(1, min(512, 2**33 // (32 * max(parameters, 1))))
    lanes = 1 << (limit.bit_length() - 1)
    share = -(-cohort // devices)
    return max(1, min(lanes, share))
