"""Pictures of measured speed: by what was swept, or by compressor."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from fedjax_compress.bench import CONTENDERS
from fedjax_compress.experiment.config import LINKS, SPECS
from fedjax_compress.report.plots import PALETTE, new_figure, save, style

Result = dict[str, Any]
_AXES = {
    "clients": "clients a round",
    "population": "registered clients",
    "lanes": "lanes",
    "devices": "devices",
}
_COLORS = dict(zip(CONTENDERS, (PALETTE[1], PALETTE[2], PALETTE[0]), strict=True))
_STYLES = dict(zip(CONTENDERS, ("o-", "s--", "^:"), strict=True))
_NAMES = {"engine": "engine", "loop": "Python loop", "bound": "SGD, no clients"}
_GAP = 1.15
_WIDE = 44
"""Letters in a line of a bar's name."""


def draw_sweep(results: list[Result], name: str, path: Path) -> Figure:
    """Samples a second and peak memory against what was swept, all logarithmic.

    Args:
      results: what ``bench.measure`` returned for all points.
      name: what varies: clients, population, lanes or devices.
      path: the PNG.
    """
    figure = new_figure(12, 4.8)
    speed, memory = figure.subplots(1, 2)
    workload = results[0]["workload"]
    style(speed, f"{workload}: samples a second", _AXES[name])
    on_device = any(r["device_peak_mb"] is not None for r in results)
    where = "on the device" if on_device else "of the process"
    style(memory, f"Peak memory {where}, MB", _AXES[name])
    kind = "device_peak_mb" if on_device else "peak_rss_mb"
    for axes, value in ((speed, "samples_per_second"), (memory, kind)):
        _lines(axes, results, name, value)
    save(figure, path)
    return figure


def _lines(axes: Axes, results: list[Result], name: str, value: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    points = sorted({r[name] for r in results if r["contender"] == "engine"})
    ends: list[tuple[float, str]] = []
    values = [r[value] for r in results]
    for contender in CONTENDERS:
        rows = [r for r in results if r["contender"] == contender]
        if not rows:
            continue
        rows.sort(key=lambda r: r[name])
        x = [r[name] for r in rows]
        y = [r[value] for r in rows]
        if len(rows) < len(points):  # one baseline for all points of the sweep
            x, y = [points[0], points[-1]], [y[0], y[0]]
        color = _COLORS[contender]
        axes.plot(x, y, _STYLES[contender], color=color, linewidth=2.2, markersize=7)
        ends.append((y[-1], contender))
    low, high = min(values) / 1.6, max(values) * 1.6
    axes.set_ylim(low, high)
    axes.set_xlim(points[0] / _GAP, points[-1] * _GAP)
    axes.xaxis.set_major_locator(FixedLocator(points))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    _name_ends(axes, points[-1], ends)


def _name_ends(axes: Axes, x: float, ends: list[tuple[float, str]]) -> list[Text]:
    """Names to the right of the lines' ends, moved apart where they would overlap."""
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    texts = []
    for y, contender in sorted(ends):
        texts.append(
            axes.annotate(
                _NAMES[contender], (x, y), (10, 0), textcoords="offset points",
                va="center", fontsize=12, weight="bold", color=_COLORS[contender],
                annotation_clip=False,
            )
        )  # fmt: skip
    canvas.draw()
    points = 72 / axes.figure.figure.dpi
    floor = -1e9
    for text in texts:
        box = text.get_window_extent(canvas.get_renderer())
        up = max(0.0, floor - box.y0)
        text.set_position((10, up * points))
        floor = box.y1 + up + 2
    return list(texts)


def draw_links(results: list[Result], path: Path) -> Figure:
    """A bar for each engine: the time of a round beside the first's.

    Args:
      results: what ``bench.measure`` returned; baselines are left out.
      path: the PNG.
    """
    rows = [r for r in results if r["contender"] == "engine"][::-1]
    figure = new_figure(10, 1.4 + 0.55 * len(rows))
    axes = figure.add_subplot()
    names = _names(rows)
    times = [r["time_to_first"] for r in rows]
    title = f"{rows[0]['workload']}: time of a round, {names[-1]} = 1"
    style(axes, title)
    positions = range(len(rows))
    colors = [PALETTE[1] if r is not rows[-1] else "#bbbbbb" for r in rows]
    axes.barh(positions, times, color=colors, height=0.6)
    folded = [_folded(name) for name in names]
    axes.set_yticks(positions, folded)
    lines = max(name.count("\n") + 1 for name in folded)
    figure.set_figheight(1.4 + max(0.55, 0.22 * lines) * len(rows))
    axes.grid(False)
    texts: list[Text] = []
    for row, (found, taken) in enumerate(zip(rows, times, strict=True)):
        sent = found["bytes_up_per_client"] / 1e3
        text = axes.annotate(
            f"{taken:.2f}   {sent:,.1f} kB up a client", (taken, row), (6, 0),
            textcoords="offset points", va="center", fontsize=11,
        )  # fmt: skip
        text.set_in_layout(False)  # the axis makes room for it, not the figure
        texts.append(text)
    axes.set_xlim(0, _room(axes, times, texts))
    save(figure, path)
    return figure


def _folded(name: str) -> str:
    return "\n".join(textwrap.fill(line, _WIDE) for line in name.split("\n"))


def _room(axes: Axes, lengths: list[float], texts: list[Text]) -> float:
    """Where the axis ends so that the text beside each bar fits."""
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    frame = axes.get_window_extent().width
    ends = [1.5 * max(lengths)]
    for length, text in zip(lengths, texts, strict=True):
        width = text.get_window_extent(canvas.get_renderer()).width
        share = (width + 12 * axes.figure.figure.dpi / 72) / frame
        ends.append(length / (1 - min(share, 0.9)))
    return max(ends)


def _names(rows: list[Result]) -> list[str]:
    """What tells engines apart: algorithms, quantized training, or else links."""
    for name in (n for n in SPECS if n in rows[0] and n not in LINKS):
        found = [r[name] for r in rows]
        if len(set(found)) > 1:
            return found
    return [_links(r) for r in rows]


def _links(found: Result) -> str:
    if found["downlink"] == "identity":
        return found["uplink"]
    both = found["uplink"] == found["downlink"]
    return f"{found['uplink']}\n" + ("both ways" if both else f"; {found['downlink']}")
