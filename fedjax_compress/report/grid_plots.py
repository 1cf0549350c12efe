"""Score against megabytes, rounds, virtual time or energy: curves of runs, and points
of a grid with their front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fedjax_compress.report import words
from fedjax_compress.report.axes import BYTES, Axis
from fedjax_compress.report.labels import End, label_ends
from fedjax_compress.report.plots import PALETTE, new_figure, save, style
from fedjax_compress.report.records import Record
from fedjax_compress.report.scores import ACCURACY, Score
from fedjax_compress.report.tables import spread

_BEST, _OTHER = PALETTE[1], "#6b6b6b"
_MANY = 12
_STYLES = ("-", "--", ":")


class Below(MaxNLocator):
    """Ticks up to the largest value only: above it stand the names."""

    def __init__(self, high: float):
        super().__init__(nbins=9, steps=[1, 2, 2.5, 5, 10])
        self.high = high

    def tick_values(self, vmin: float, vmax: float) -> Any:
        ticks = super().tick_values(vmin, self.high)
        return [t for t in ticks if t <= self.high + 1e-9]


def _new_axes(axis: Axis, x: str, score: Score, more: str = "") -> Axes:
    """A figure whose x axis is a cost, logarithmic, and whose y axis a score."""
    axes = new_figure(10, 6.4).add_subplot()
    title = f"Test {score.words} against {axis.title}"
    style(axes, title, x, f"{score.axis}{more}")
    axes.set_xscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: score.tick(v)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return axes


def _finish(
    axes: Axes,
    ends: list[End],
    values: list[float],
    score: Score,
    path: Path,
    size: float = 12.0,
) -> Figure:
    """Names the ends, marks the axes, and writes the picture."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = score.margin(low, high)
    low, high = low - margin, high + margin / 2
    if ends:  # where all have diverged there are none
        label_ends(axes, ends, low, high, size)
    top = min(1.0, high) if score.unit == "%" else high
    axes.yaxis.set_major_locator(Below(top))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    figure = axes.figure.figure
    save(figure, path)
    return figure


def draw_curves(
    curves: list[tuple[str, list[Record]]],
    path: Path,
    score: Score = ACCURACY,
    axis: Axis = BYTES,
) -> Figure:
    """Score against what it has cost so far, one line for each run.

    Args:
      curves: name and evaluated rounds of each run; a round holds ``test_NAME`` of the
        score, and what the axis shows, such as the bytes so far, ``bytes_up`` and
        ``bytes_down``.
      path: the PNG.
      score: by what all are judged.
      axis: the costs.
    """
    amounts = [[axis.amount(r) or 0.0 for r in rounds] for _, rounds in curves]
    unit = axis.unit(max((x for found in amounts for x in found), default=0.0))
    where = f"{axis.curve.format(unit=unit.name)} (logarithmic)"
    axes = _new_axes(axis, where, score)
    ends: list[End] = []
    seen: list[float] = []
    for i, (name, rounds) in enumerate(curves):
        if not rounds:  # it diverged before it was evaluated
            continue
        x = [amount / unit.size for amount in amounts[i]]
        y = [r[score.key] for r in rounds]
        color = PALETTE[i % len(PALETTE)]
        line = _STYLES[i // len(PALETTE) % len(_STYLES)]
        axes.plot(x, y, line, color=color, linewidth=2.2)
        axes.plot(x[-1:], y[-1:], "o", color=color, markersize=8, zorder=4)
        ends.append(End(x[-1], y[-1], f"{name}  {score.show(y[-1])}", color))
        seen += y
    return _finish(axes, ends, seen, score, path)


def draw_grid(
    schemes: list[dict[str, Any]],
    path: Path,
    score: Score = ACCURACY,
    axis: Axis = BYTES,
) -> Figure:
    """A point for each scheme, its mean and spread, and the Pareto front.

    Where all schemes send as much one way, the axis is what they send the other way.

    Args:
      schemes: as in ``grid.json``: ``name``, ``pareto``, and ``megabytes``,
        ``bytes_up``, ``bytes_down`` and the score with ``mean`` and ``spread``; for
        another axis than bytes its ``runs``.
      path: the PNG.
      score: by what all are judged.
      axis: the costs, by which ``pareto`` is.
    """
    schemes, where = _placed(schemes, axis)
    axes = _new_axes(
        axis,
        f"{where} (logarithmic); filled and joined: nothing better for less",
        score,
        ", mean and spread over seeds",
    )
    ends = []
    for scheme in schemes:
        x, y = scheme["x"]["mean"], scheme[score.key]["mean"]
        if y is None:
            continue
        color = _BEST if scheme["pareto"] else _OTHER
        _draw_point(axes, scheme, x, y, color, score)
        ends.append(End(x, y, f"{scheme['name']}  {score.show(y)}", color))
    _draw_front(axes, [s for s in schemes if s["pareto"]], score)
    if ends and len({end.x for end in ends}) == 1:  # a range of its own has no width
        axes.set_xlim(ends[0].x / 2, ends[0].x * 2)
    size = 12.0 if len(ends) <= _MANY else 9.0
    return _finish(axes, ends, _range(schemes, score), score, path, size)


def _placed(
    schemes: list[dict[str, Any]], axis: Axis
) -> tuple[list[dict[str, Any]], str]:
    """The schemes with the ``x`` to draw, mean and spread, and what it is."""
    if axis is BYTES:
        places, way = _by_what_differs(schemes)
        unit = axis.units[0]
    else:
        costs = [spread([axis.amount(r) for r in s["runs"]]) for s in schemes]
        unit, way = axis.unit(max(cost["mean"] for cost in costs)), ""
        places = [_in_units(cost, unit.size) for cost in costs]
    drawn = [s | {"x": place} for s, place in zip(schemes, places, strict=True)]
    return drawn, axis.point.format(unit=unit.name, way=way)


def _by_what_differs(
    schemes: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], str]:
    """The megabytes to draw, and what these are."""

    def constant(way: str) -> float | None:
        found = {s[way]["mean"] for s in schemes}
        return found.pop() if len(found) == 1 else None

    up, down = constant("bytes_up"), constant("bytes_down")
    if (up is None) == (down is None):
        return [s["megabytes"] for s in schemes], "up and down"
    same, way, other, name = (
        (down, "bytes_up", "up", "down")
        if up is None
        else (up, "bytes_down", "down", "up")
    )
    assert same is not None
    places = [_in_units(s[way], 1e6) for s in schemes]
    return places, f"{other} (every scheme: {words.millions(same)} MB {name})"


def _in_units(figures: dict[str, Any], size: float) -> dict[str, Any]:
    around = figures["spread"]
    return {
        "mean": figures["mean"] / size,
        "spread": None if around is None else around / size,
    }


def _draw_point(
    axes: Axes, scheme: dict[str, Any], x: float, y: float, color: str, score: Score
) -> None:
    axes.errorbar(
        x,
        y,
        xerr=_bar(scheme["x"]),
        yerr=_bar(scheme[score.key]),
        fmt="o",
        color=color,
        markerfacecolor=color if scheme["pareto"] else "white",
        markersize=8,
        capsize=3,
        zorder=4,
        label=scheme["name"],
    )


def _bar(figures: dict[str, Any]) -> float | None:
    """Half the length of a bar, which a logarithmic axis must not take below zero."""
    around, mean = figures["spread"], figures["mean"]
    return None if around is None else min(around, 0.9 * abs(mean))


def _draw_front(axes: Axes, best: list[dict[str, Any]], score: Score) -> None:
    """Steps: the best score that so much can buy."""
    points = sorted(
        (s["x"]["mean"], s[score.key]["mean"])
        for s in best
        if s[score.key]["mean"] is not None
    )
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=_BEST, linewidth=2, drawstyle="steps-post", zorder=3)


def _range(schemes: list[dict[str, Any]], score: Score) -> list[float]:
    """The ends of all bars."""
    found = [s[score.key] for s in schemes]
    known = [(f["mean"], f["spread"] or 0.0) for f in found if f["mean"] is not None]
    return [end for mean, around in known for end in (mean - around, mean + around)]
