"""Which points cannot be bettered: no other costs as little and is worth as much."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point lies on the Pareto front.

    A point is off the front if another one costs no more and is worth no less, and
    differs from it. Equal points share their place.

    Args:
      points: (cost, worth) of each; lower costs and higher worths are better.
    """

    def beats(other: tuple[float, float], point: tuple[float, float]) -> bool:
        return other != point and other[0] <= point[0] and other[1] >= point[1]

    return [not any(beats(other, point) for other in points) for point in points]
