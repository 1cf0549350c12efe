"""By what two starts of a run are known to sample alike."""

from __future__ import annotations

import hashlib

import numpy as np

from fedjax_compress.checks.returned import within
from fedjax_compress.simulate.plan import Sampling, check_ids


def first_cohort(sampling: Sampling, seed: int, sizes: np.ndarray, cohort: int) -> str:
    """A digest of the clients of the first round, whatever their order.

    Raises:
      InputError: the sampling gives something else than a cohort.
    """
    with within("the sampling"):
        drawn = sampling(seed, 0, sizes, cohort)
    ids = np.sort(check_ids(drawn, cohort, len(sizes), 0))
    return hashlib.sha256(ids.tobytes()).hexdigest()
