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
    right, one step above all names that begin below it. So a rule, which rises at the
    end of its line, never meets a name: what is lower there begins further right. The
    axes are widened to the right and upwards until all names fit; many names make the
    figure higher.

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
    for text in texts:
        text.set_in_layout(False)  # the axes make room for them, not the figure
    canvas.draw()
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
    frame = axes.get_window_extent()
    place = _widen(axes, ends, [b.width + 3 * _GAP for b in boxes], frame.width)
    steps = _steps(place, [b.width + 2 * _GAP for b in boxes])
    height = 1.35 * max(b.height for b in boxes)
    band = (max(steps) + 1) * height + 3 * _GAP
    if (lacking := 2 * band - frame.height) > 0:
        figure = axes.figure.figure
        figure.set_figheight(figure.get_figheight() + lacking / figure.dpi)
        canvas.draw()
        frame = axes.get_window_extent()
    share = band / frame.height
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
    """The step of each name: one above all names that begin before it ends.

    Names to the left of it begin earlier and stand higher, or end before it.
    """
    steps = [0] * len(place)
    done: list[int] = []
    for i in sorted(range(len(place)), key=lambda i: -place[i]):
        below = (steps[j] for j in done if place[j] < place[i] + widths[i])
        steps[i] = 1 + max(below, default=-1)
        done.append(i)
    return steps


def _shift(axes: Axes, x: float, pixels: float, frame: float) -> float:
    """``x`` moved to the right by some pixels of a logarithmic axis."""
    left, right = (math.log10(v) for v in axes.get_xlim())
    return 10 ** (math.log10(x) + pixels * (right - left) / frame)
