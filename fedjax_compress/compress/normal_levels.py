"""Levels for Gaussian numbers: nearest ones with the least error."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()
_STEPS = 50


@functools.cache
def lloyd_max(bits: int) -> np.ndarray:
    """The 2**bits levels of the Lloyd-Max quantizer of N(0, 1), increasing, float64.

    Each level is the mean of N(0, 1) over its cell, and cells meet halfway between
    levels. By symmetry only the positive half is solved for, by Newton's method from
    the levels that are right for many bits, those evenly spaced in the distribution of
    N(0, 3).

    Args:
      bits: 1 to 8.
    """
    half = 2 ** (bits - 1)
    start = NormalDist(0, math.sqrt(3))
    levels = np.array(
        [start.inv_cdf((half + i + 0.5) / (2 * half)) for i in range(half)]
    )
    for _ in range(_STEPS):
        error, slope = _centroid_error(levels)
        step = np.linalg.solve(slope, error)
        levels = levels - step
        if np.abs(step).max() < 1e-13:
            break
    return np.concatenate([-levels[::-1], levels])


def _centroid_error(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level minus mean of its cell, and the derivatives by the levels.

    The mean over a .. b is M = (f(a) - f(b)) / P, with f the density and P the cell's
    probability; dM/da = f(a) (M - a) / P and dM/db = f(b) (b - M) / P.
    """
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    density = np.array([_NORMAL.pdf(e) for e in edges[:-1]] + [0.0])
    tail = np.array([math.erfc(e / math.sqrt(2)) / 2 for e in edges])
    chance = tail[:-1] - tail[1:]
    mean = (density[:-1] - density[1:]) / chance
    left = density[:-1] * (mean - edges[:-1]) / chance
    edges[-1] = 0.0
    right = density[1:] * (edges[1:] - mean) / chance
    left[0] = 0.0
    slope = np.diag(1 - (left + right) / 2)
    slope -= np.diag(left[1:] / 2, -1) + np.diag(right[:-1] / 2, 1)
    return levels - mean, slope
