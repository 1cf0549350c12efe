"""Who waited for whom: the clients of one round as bars of virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fedjax_compress.report import words
from fedjax_compress.report.axes import TIME
from fedjax_compress.report.plots import PALETTE, new_figure, save, style

Array = np.ndarray
MOST = 40
"""Clients that are drawn."""
_FURTHEST = 1.5
"""How far a bar goes at most, where the end of the round is at 1."""
_COLORS = {
    "download": PALETTE[1],
    "computing": PALETTE[2],
    "upload": PALETTE[3],
    "waiting": "#d9d9d9",
}
_MARKS = {"late": "////", "lost": "xxxx"}
_FAINT = 0.35
_LEAST = 0.005
"""Share of the picture from which on a segment is set apart from the one before."""


class Bars(NamedTuple):
    """The clients of a round; arrays [n].

    Attributes:
      ids: of the clients.
      download, compute, upload: seconds.
      end: seconds until the round was over; None where nobody waits for others.
      late: bool, who was not waited for.
      lost: bool, who never reported.
      pauses: whether what is left of a round may be a time when the client was away.
    """

    ids: Array
    download: Array
    compute: Array
    upload: Array
    end: float | None
    late: Array
    lost: Array
    pauses: bool = False

    @property
    def total(self) -> Array:
        """Seconds without waiting."""
        return np.asarray(self.download + self.compute + self.upload)


def draw_round(number: int, bars: Bars, path: Path) -> Figure:
    """A bar for each client, the quickest at the top, with the end of the round.

    What clients that were late or lost would have done after the end is faint.

    Args:
      number: of the round.
      bars: its clients.
      path: the PNG.
    """
    invited = len(bars.ids)
    order = np.argsort(bars.total, kind="stable")[-MOST:]
    each: dict[str, Any] = bars._asdict()
    arrays = {n: x[order] for n, x in each.items() if isinstance(x, np.ndarray)}
    bars = Bars(**{**each, **arrays})
    count = len(bars.ids)
    figure = new_figure(10, 2.0 + 0.24 * count)
    axes = figure.add_subplot()
    kept = bars.total[~(bars.late | bars.lost)]
    highest = float(bars.total.max(initial=0.0))
    right = highest if bars.end is None else min(highest, _FURTHEST * bars.end)
    right = max(right, bars.end or 0.0, kept.max(initial=0.0))
    unit = TIME.unit(right)
    whole = (
        "its clients"
        if count == invited
        else f"the {count} slowest of {invited:,} clients"
    )
    title = f"Round {number}: {whole}, and who waited for whom"
    if bars.end is None:
        title = f"Step {number}: {whole}, each from when it began"
    faint = "" if highest <= (bars.end or highest) else "; faint: not waited for"
    style(axes, title, f"virtual time, {unit.name}{faint}")
    axes.grid(False, axis="y")
    drawn = _segments(axes, bars, unit.size)
    axes.set_xlim(0, 1.01 * right / unit.size or 1.0)
    _name(axes, bars, right)
    if bars.end is not None:
        _mark_end(axes, bars.end, bars.end / unit.size)
    axes.set_ylim(count - 0.4, -0.7 if bars.end is None else -1.7)
    figure.legend(handles=drawn, loc="outside lower center", ncols=6, frameon=False)
    save(figure, path)
    return figure


def _segments(axes: Axes, bars: Bars, size: float) -> list[Patch]:
    """Draws the bars; returns what the legend shows."""
    rows, total = np.arange(len(bars.ids)), bars.total
    end, waiting = bars.end, np.zeros(len(rows))
    cut = total.copy()  # where work was broken off
    if end is not None:
        gone = bars.late | bars.lost
        cut[gone] = np.minimum(total[gone], end)
        waiting[~gone] = np.clip(end - total[~gone], 0, None)
    cut += waiting
    handles, begin = [], np.zeros(len(rows))
    spans = (bars.download, bars.compute, bars.upload, waiting)
    for (name, color), span in zip(_COLORS.items(), spans, strict=True):
        stop = begin + span
        for left, right, alpha in (
            (np.minimum(begin, cut), np.minimum(stop, cut), 1.0),
            (np.maximum(begin, cut), np.maximum(stop, cut), _FAINT),
        ):
            some = right > left
            axes.barh(
                rows[some], (right - left)[some] / size, left=left[some] / size,
                height=0.76, color=color, alpha=alpha, linewidth=0,
            )  # fmt: skip
        if span.any():
            away = name == "waiting" and bars.pauses
            handles.append(Patch(color=color, label="waiting, away" if away else name))
        apart = np.minimum(span, begin) > _LEAST * cut.max()  # in print all look alike
        axes.vlines(
            begin[apart] / size, rows[apart] - 0.4, rows[apart] + 0.4,
            color="white", linewidth=1,
        )  # fmt: skip
        begin = stop
    for name, who in (("late", bars.late), ("lost", bars.lost)):
        if who.any():
            axes.barh(
                rows[who], total[who] / size, height=0.76,
                color="none", edgecolor="white", hatch=_MARKS[name], linewidth=0,
            )  # fmt: skip
            grey = Patch(
                facecolor="#5a5a5a",
                edgecolor="white",
                hatch=_MARKS[name],
                linewidth=0,
                label=name,
            )
            handles.append(grey)
    return handles


def _name(axes: Axes, bars: Bars, right: float) -> None:
    """Whose bars they are, and how long those are that leave the picture."""
    rows = range(len(bars.ids))
    said = np.where(bars.lost, "lost, ", np.where(bars.late, "late, ", ""))
    labels = [f"{word}{i}" for word, i in zip(said, bars.ids, strict=True)]
    axes.set_yticks(rows, labels, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("client", fontsize=12)
    for row in rows:
        if bars.total[row] > 1.01 * right:
            text = f"\N{RIGHTWARDS ARROW} {words.virtual(float(bars.total[row]))}"
            axes.annotate(
                text, (1, row), (4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center", fontsize=9,
                annotation_clip=False,
            )  # fmt: skip


def _mark_end(axes: Axes, seconds: float, place: float) -> None:
    """The line at which the round was over."""
    axes.axvline(place, color=PALETTE[0], linewidth=1.6)
    side = place > 0.5 * axes.get_xlim()[1]
    axes.annotate(
        f"end of the round: {words.virtual(seconds)}", (place, -1.1),
        (-5 if side else 5, 0), textcoords="offset points",
        ha="right" if side else "left", va="center", fontsize=10,
    )  # fmt: skip
