"""The picture of a grid: accuracy against megabytes, and what cannot be bettered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fedjax_compress.experiment import words
from fedjax_compress.experiment.labels import End, label_ends
from fedjax_compress.experiment.plots import PALETTE, Shares, new_figure, save, style

_BEST, _OTHER = PALETTE[1], "#6b6b6b"
_MANY = 12


def draw_grid(schemes: list[dict[str, Any]], path: Path) -> Figure:
    """A point for each scheme, its mean and spread, and the Pareto front.

    Where all schemes send as much one way, the axis is what they send the other way.

    Args:
      schemes: as in ``grid.json``: ``name``, ``pareto``, and ``megabytes``,
        ``bytes_up``, ``bytes_down`` and ``test_accuracy`` with ``mean`` and ``spread``.
      path: the PNG.
    """
    schemes, what = _by_what_differs(schemes)
    figure = new_figure(10, 6.4)
    axes = figure.add_subplot()
    style(
        axes,
        "Test accuracy against what travelled",
        f"MB sent {what}, by all clients (logarithmic); "
        "filled and joined: nothing better for less",
        "test accuracy, mean and spread over seeds",
    )
    axes.set_xscale("log")
    ends = []
    for scheme in schemes:
        x, y = scheme["megabytes"]["mean"], scheme["test_accuracy"]["mean"]
        if y is None:
            continue
        color = _BEST if scheme["pareto"] else _OTHER
        _draw_point(axes, scheme, x, y, color)
        ends.append(End(x, y, f"{scheme['name']}  {words.percent(y)}", color))
    _draw_front(axes, [s for s in schemes if s["pareto"]])
    if ends:
        low, high = _range(schemes)
        if len({end.x for end in ends}) == 1:  # a range of its own has no width
            axes.set_xlim(ends[0].x / 2, ends[0].x * 2)
        label_ends(axes, ends, low, high, 12.0 if len(ends) <= _MANY else 9.0)
        axes.yaxis.set_major_locator(Shares(high))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    save(figure, path)
    return figure


def _by_what_differs(
    schemes: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], str]:
    """The schemes with the ``megabytes`` to draw, and what these are."""

    def constant(way: str) -> float | None:
        found = {s[way]["mean"] for s in schemes}
        return found.pop() if len(found) == 1 else None

    up, down = constant("bytes_up"), constant("bytes_down")
    if (up is None) == (down is None):
        return schemes, "up and down"
    same, way, other, name = (
        (down, "bytes_up", "up", "down")
        if up is None
        else (up, "bytes_down", "down", "up")
    )
    assert same is not None
    drawn = [s | {"megabytes": _in_megabytes(s[way])} for s in schemes]
    return drawn, f"{other} (every scheme: {words.millions(same)} MB {name})"


def _in_megabytes(figures: dict[str, Any]) -> dict[str, Any]:
    around = figures["spread"]
    return {
        "mean": figures["mean"] / 1e6,
        "spread": None if around is None else around / 1e6,
    }


def _draw_point(
    axes: Axes, scheme: dict[str, Any], x: float, y: float, color: str
) -> None:
    axes.errorbar(
        x,
        y,
        xerr=_bar(scheme["megabytes"]),
        yerr=_bar(scheme["test_accuracy"]),
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


def _draw_front(axes: Axes, best: list[dict[str, Any]]) -> None:
    """Steps: the best accuracy that so many megabytes can buy."""
    points = sorted(
        (s["megabytes"]["mean"], s["test_accuracy"]["mean"])
        for s in best
        if s["test_accuracy"]["mean"] is not None
    )
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=_BEST, linewidth=2, drawstyle="steps-post", zorder=3)


def _range(schemes: list[dict[str, Any]]) -> tuple[float, float]:
    """The range of accuracies with their bars, and a margin."""
    found = [s["test_accuracy"] for s in schemes]
    known = [(f["mean"], f["spread"] or 0.0) for f in found if f["mean"] is not None]
    low, high = min(m - s for m, s in known), max(m + s for m, s in known)
    margin = max(0.02, 0.04 * (high - low))
    return low - margin, high + margin / 2
