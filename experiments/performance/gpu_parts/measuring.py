"""What all parts share: the time left, repetitions, figures with their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Figure = dict[str, Any]


class Options(NamedTuple):
    """What a part is told.

    Attributes:
      quick: tiny sizes, two repetitions.
      data: folder of data sets, or None for synthetic rows.
      end: when its process is killed, by ``time.monotonic``.
    """

    quick: bool
    data: Path | None
    end: float

    @classmethod
    def begin(cls, quick: bool, data: Path | None, seconds: float) -> Options:
        """As of now."""
        return cls(quick, data, time.monotonic() + seconds)

    def budget(self, most: float) -> float:
        """Seconds for repetitions: ``most``, or a quarter of those left."""
        return 0.0 if self.quick else min(most, self.left() / 4)

    def left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()


class Piece(NamedTuple):
    """A step of a part: it gives figures, each told as soon as it is there."""

    name: str
    measure: Callable[[], Iterable[Figure]]


def repeated(
    work: Callable[[], float], seconds: float, least: int = 3, most: int = 15
) -> list[float]:
    """What ``work`` returns, again and again while there is time.

    Args:
      work: returns the seconds that it took, or some other figure.
      seconds: after these nothing is begun but to make ``least``.
      least, most: bounds on the number.
    """
    begin, found = time.monotonic(), []
    while len(found) < least or (
        len(found) < most and time.monotonic() - begin < seconds
    ):
        found.append(work())
    return found


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest, highest, their number, and the values, to four digits."""
    short = [float(f"{value:.4g}") for value in values]
    return {
        "median": float(f"{statistics.median(values):.4g}"),
        "lowest": min(short),
        "highest": max(short),
        "times": len(short),
        "values": short,
    }


def per_round(
    name: str, seconds: Sequence[float], rows: Sequence[float], **facts: Any
) -> Figure:
    """The figure of some rounds.

    Args:
      name: what was measured.
      seconds: of each round, without compiling.
      rows: that the clients of each round trained on.
      facts: what else is known; ``compile_seconds`` at least.
    """
    rates = [n / s for n, s in zip(rows, seconds, strict=True)]
    return {
        "name": name,
        "seconds_per_round": spread(seconds),
        "rows_per_second": spread(rates),
        **facts,
    }
