"""Which of a few sizes each client trains."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from fedjax_compress.algorithms.shared.submodel_training import TierOf
from fedjax_compress.errors import InputError

Assign = Literal["fixed", "dynamic"]
_STREAM = 0x54494552


def assignment(assign: Assign, shares: tuple[float, ...], kinds: int) -> TierOf:
    """Independent draws: once for all of a run (fixed), or anew each round (dynamic).

    Args:
      assign: fixed or dynamic.
      shares: of the clients in each kind, as ratios; empty for equal ones.
      kinds: number of sizes.

    Raises:
      InputError: shares that do not fit the kinds, or are not finite and positive.
    """
    if shares and len(shares) != kinds:
        raise InputError(f"shares must be {kinds} numbers, one a rate, not {shares}")
    if any(not 0 < share < math.inf for share in shares):
        raise InputError(f"shares must be positive and finite, got {shares}")
    ratios = np.asarray(shares or (1.0,) * kinds, np.float64)
    ends = np.cumsum(ratios / ratios.sum())[:-1]

    def tier_of(seed: int, number: int, ids: Any) -> Any:
        if not np.size(ids):
            return np.zeros(np.shape(ids), np.int32)
        stream = [seed, _STREAM, 0 if assign == "fixed" else number + 1]
        # A generator's numbers do not depend on how many are drawn at once.
        drawn = np.random.default_rng(stream).random(int(np.max(ids)) + 1)
        return np.searchsorted(ends, drawn[ids], side="right").astype(np.int32)

    return tier_of
