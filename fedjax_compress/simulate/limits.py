"""What a simulator can be asked for, and what it keeps on the device."""

from __future__ import annotations

import jax
import numpy as np

from fedjax_compress.clients import ClientData
from fedjax_compress.errors import InputError

RESIDENT_LIMIT = 2**31
"""Rows, or client states, of at most this many bytes live on the device."""


def streams(data: ClientData, limit: int) -> bool:
    """Whether the rows stay on the host."""
    columns = jax.tree.leaves(data)
    mapped = any(isinstance(c, np.memmap) for c in columns)
    return mapped or sum(c.nbytes for c in columns) > limit


def check(cohort: int, clients: int, lanes: int, rounds_per_call: int) -> None:
    """Raises InputError unless a simulator can be made with these numbers."""
    if not 1 <= cohort <= clients:
        raise InputError(
            f"the cohort must be 1 to {clients} clients (the population), got {cohort}"
        )
    if lanes < 0:
        raise InputError(f"lanes must not be negative (0 chooses), got {lanes}")
    if rounds_per_call < 1:
        raise InputError(f"rounds_per_call must be at least 1, got {rounds_per_call}")
