"""Levels for Gaussian numbers: with least error to the nearest, or without bias."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np

OUTLIERS = 1 / 512
"""Probability of |z| beyond the outermost unbiased level."""
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


@functools.cache
def unbiased_levels(bits: int) -> np.ndarray:
    """The 2**bits levels from -T to T of least variance without bias, float64.

    P(|z| > T) = 1 / 512 for z of N(0, 1), and T = 3.097. An element between levels a
    and b is rounded to one of them at random, with variance (z - a)(b - z). The
    expected variance is least where for each level c, between a and b, the integral of
    (z - a) over a .. c equals that of (b - z) over c .. b. Newton's method for the
    positive half, from levels evenly spaced in the distribution of N(0, 3).

    Args:
      bits: 1 to 8.
    """
    half = 2 ** (bits - 1)
    limit = _NORMAL.inv_cdf(1 - OUTLIERS / 2)
    start = NormalDist(0, math.sqrt(3))
    most = start.cdf(limit)
    share = [0.5 + (most - 0.5) * (2 * i + 1) / (2 * half - 1) for i in range(half - 1)]
    inner = np.array([start.inv_cdf(s) for s in share])
    for _ in range(_STEPS if half > 1 else 0):
        error, slope = _imbalance(np.append(inner, limit))
        step = np.linalg.solve(slope, error)
        inner = inner - step
        if np.abs(step).max() < 1e-13:
            break
    levels = np.append(inner, limit)
    return np.concatenate([-levels[::-1], levels])


def _imbalance(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of the two integrals for all levels but the last, and derivatives.

    With P the probability of an interval, d/dc = (b - a) f(c), d/da = -P(a, c) and
    d/db = -P(c, b). The first level has a = -c.
    """
    c, b = levels[:-1], levels[1:]
    a = np.append(-c[0], c[:-1])
    density = [np.array([_NORMAL.pdf(z) for z in part]) for part in (a, c, b)]
    cdf = [np.array([_NORMAL.cdf(z) for z in part]) for part in (a, c, b)]
    left, right = cdf[1] - cdf[0], cdf[2] - cdf[1]
    error = density[0] - density[1] - a * left - b * right + density[1] - density[2]
    slope = np.diag((b - a) * density[1])
    slope -= np.diag(left[1:], -1) + np.diag(right[:-1], 1)
    slope[0, 0] += left[0]
    return error, slope
