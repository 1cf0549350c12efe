"""Which clients take part in a round: pure functions of (seed, round)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedjax_compress import registry
from fedjax_compress.errors import InputError

Sampling = Callable[[int, int, np.ndarray, int], np.ndarray]
"""(seed, round, sizes [clients], cohort) -> int32 [cohort], distinct ids, ascending."""

_STREAM = 0x53414D50


def generator(seed: int, round: int) -> np.random.Generator:
    """The counter-based stream of one round: Philox keyed by seed and round."""
    key = np.array([seed % 2**64, round], np.uint64)
    counter = np.array([0, 0, 0, _STREAM], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def check_cohort(cohort: int, clients: int) -> None:
    """Raises InputError unless 1 <= cohort <= clients."""
    if cohort < 1:
        raise InputError(f"a cohort needs at least 1 client, not {cohort}")
    if cohort > clients:
        raise InputError(
            f"a cohort of {cohort} cannot be drawn from {clients} clients; "
            f"lower the cohort to at most {clients}"
        )


@registry.register("sampling")
def uniform() -> Sampling:
    """Every client equally likely, without replacement.

    Time and memory are O(cohort), however many clients there are.
    """

    def sample(seed: int, round: int, sizes: np.ndarray, cohort: int) -> np.ndarray:
        check_cohort(cohort, len(sizes))
        rng = generator(seed, round)
        ids = rng.choice(len(sizes), cohort, replace=False, shuffle=False)
        return np.sort(ids).astype(np.int32)

    return sample


@registry.register("sampling")
def weighted() -> Sampling:
    """Clients drawn one after another by their number of rows, without replacement.

    Client i gets the key E_i / n_i with E_i standard exponential; the smallest keys
    win. That is the same as drawing one client at a time with probability n_i over
    the rows of those not yet drawn. For cohorts above 1 the chance to take part is
    therefore not exactly proportional to n_i. A client without rows is never drawn.
    Time and memory are O(clients).

    Reference: Efraimidis, Spirakis, "Weighted random sampling with a reservoir"
    (2006), algorithm A with keys on a logarithmic scale (from memory).
    """

    def sample(seed: int, round: int, sizes: np.ndarray, cohort: int) -> np.ndarray:
        sizes = np.asarray(sizes)
        check_cohort(cohort, int(np.count_nonzero(sizes > 0)))
        keys = generator(seed, round).standard_exponential(len(sizes))
        with np.errstate(divide="ignore"):
            keys = np.where(sizes > 0, keys / np.maximum(sizes, 0), np.inf)
        ids = np.argpartition(keys, cohort - 1)[:cohort]
        return np.sort(ids).astype(np.int32)

    return sample
