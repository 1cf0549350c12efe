"""Names written at the ends of lines, without a legend and without overlap."""

from __future__ import annotations

import math
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

_GAP = 6.0
_LEADER = "#9a9a9a"


class End(NamedTuple):
    """The end of a line (in data coordinates) and what to write there."""

    x: float
    y: float
    text: str
    color: str


def label_ends(
    axes: Axes, ends: list[End], low: float, high: float, size: float = 12.0
) -> list[Text]:
    """Writes the names in steps above the lines, each tied to its end by a rule.

    The x axis is logarithmic. A name starts at the x of its end and runs to the
    right; ends are taken from right to left and each name takes the lowest step that
    is free. So a rule, which rises at the end of its line, never meets a name: names
    on lower steps belong to ends further right. The axes are widened to the right
    and upwards until all names fit.

    Args:
      axes: where; its limits are set here.
      ends: the ends of the lines.
      low, high: the range of y that the lines take up.
      size: of the letters, in points.
    """
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    texts = [
        axes.text(
            e.x, e.y, e.text, color=e.color, fontsize=size, va="center", weight="bold"
        )
        for e in ends
    ]
    canvas.draw()
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
    frame = axes.get_window_extent()
    place = _widen(axes, ends, [b.width + 3 * _GAP for b in boxes], frame.width)
    steps = _steps(place, [b.width + 2 * _GAP for b in boxes])
    height = 1.35 * max(b.height for b in boxes)
    share = min(0.65, ((max(steps) + 1) * height + 3 * _GAP) / frame.height)
    top = low + (high - low) / (1 - share)
    axes.set_ylim(low, top)
    unit = (top - low) / frame.height
    for end, text, step in zip(ends, texts, steps, strict=True):
        y = high + (2 * _GAP + (step + 0.5) * height) * unit
        text.set_position((_shift(axes, end.x, _GAP, frame.width), y))
        axes.plot(
            [end.x, end.x],
            [end.y, y + 0.4 * height * unit],
            color=_LEADER,
            linewidth=1,
            zorder=1,
        )
    return texts


def _widen(
    axes: Axes, ends: list[End], widths: list[float], frame: float
) -> list[float]:
    """Sets the right limit so that names of these widths fit; returns where they start.

    With the left limit at a and lengths in powers of ten, a name of share s of the
    frame that starts at x fits iff (x - a) + s L <= L.
    """
    left, right = (math.log10(v) for v in axes.get_xlim())
    length = right - left
    for end, width in zip(ends, widths, strict=True):
        share = min(width / frame, 0.9)
        length = max(length, (math.log10(end.x) - left) / (1 - share))
    axes.set_xlim(10**left, 10 ** (left + length))
    return [(math.log10(e.x) - left) / length * frame for e in ends]


def _steps(place: list[float], widths: list[float]) -> list[int]:
    """The step of each name: the lowest on which it ends before the next one begins."""
    steps = [0] * len(place)
    begins: list[float] = []
    for i in sorted(range(len(place)), key=lambda i: -place[i]):
        end = place[i] + widths[i]
        free = (s for s, begin in enumerate(begins) if end <= begin)
        steps[i] = next(free, len(begins))
        begins[steps[i] :] = [place[i], *begins[steps[i] + 1 :]]
    return steps


def _shift(axes: Axes, x: float, pixels: float, frame: float) -> float:
    """``x`` moved to the right by some pixels of a logarithmic axis."""
    left, right = (math.log10(v) for v in axes.get_xlim())
    return 10 ** (math.log10(x) + pixels * (right - left) / frame)
