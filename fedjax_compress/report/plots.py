"""Pictures of runs: readable in print, by the colour-blind, and without legends."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedjax_compress.report import words
from fedjax_compress.report.files import write_atomically
from fedjax_compress.report.records import Record
from fedjax_compress.report.scores import Score, of_summary

PALETTE = ("#000000", "#0072b2", "#b84d00", "#007a55", "#a8447f", "#876000", "#5a5f9e")
"""Okabe and Ito's colours, the light ones darkened for letters on white."""
_GRID = "#dddddd"


def new_figure(width: float, height: float) -> Figure:
    """A figure with its own canvas: no global state, no window."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG, or an SVG where the name ends so, in one step."""
    buffer = io.BytesIO()
    if path.suffix.lower() == ".svg":
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    else:
        figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def style(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Two spines, a faint grid, a title at the left; long labels take several lines."""
    _fold(axes, axes.set_title(title, loc="left", fontsize=13, weight="bold"))
    _fold(axes, axes.set_xlabel(x, fontsize=12))
    _fold(axes, axes.set_ylabel(y, fontsize=12), upright=True)
    axes.tick_params(labelsize=11)
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _fold(axes: Axes, text: Text, upright: bool = False) -> None:
    """Breaks a text into the fewest lines that are no longer than their axis."""
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    frame, words = axes.get_window_extent(), text.get_text()
    for lines in range(1, len(words.split()) + 1):
        text.set_text(textwrap.fill(words, math.ceil(1.1 * len(words) / lines)))
        box = text.get_window_extent(canvas.get_renderer())
        if box.height <= frame.height if upright else box.width <= frame.width:
            break


def draw_run(history: list[Record], summary: dict[str, Any], path: Path) -> Figure:
    """Score and loss by round, and the bytes of both directions beside FP32's.

    Where parameters are pruned, also the share of them in use, by layer and round.
    """
    pruned = "density" in history[-1]
    figure = new_figure(17 if pruned else 13, 4.2)
    scored, loss, sizes, *more = figure.subplots(1, 4 if pruned else 3)
    _draw_score(scored, history, of_summary(summary))
    style(loss, "Training loss", "round")
    values = [_number(r["train_loss"]) for r in history]
    loss.plot([r["round"] for r in history], values, color=PALETTE[1], linewidth=2)
    _draw_bytes(sizes, summary)
    for axes in more:
        _draw_density(axes, history)
    for axes in (scored, loss, *more):
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    save(figure, path)
    return figure


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _draw_score(axes: Axes, history: list[Record], score: Score) -> None:
    rows = [r for r in history if r.get(score.key) is not None]
    name = f"Test {score.words}"
    if not rows:
        style(axes, f"{name}: diverged before the first evaluation", "round")
        return
    x = [r["round"] for r in rows]
    last = rows[-1][score.key]
    style(axes, f"{name}: {score.show(last)}", "round")
    y = [r[score.key] for r in rows]
    axes.plot(x, y, "o-", color=PALETTE[1], linewidth=2, markersize=4)
    more = {
        score.client_keys[1]: (f"{score.worst} of clients", "--", PALETTE[2]),
        score.personal_keys[0]: ("own models, mean", ":", PALETTE[3]),
    }
    for name, (text, dashes, color) in more.items():
        if name in rows[-1]:
            found = [_number(r[name]) for r in rows]
            axes.plot(x, found, dashes, color=color, linewidth=2, label=text)
    if len(axes.lines) > 1:
        axes.lines[0].set_label("all test rows")
        axes.legend(fontsize=10, frameon=False, labelcolor="linecolor")
        axes.margins(y=0.2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: score.tick(v)))


def _draw_density(axes: Axes, history: list[Record]) -> None:
    style(axes, f"In use: {words.percent(history[-1]['density'])}", "round")
    x = [r["round"] for r in history]
    prefix = "density/"
    paths = [name for name in history[-1] if name.startswith(prefix)]
    layers = paths if len(paths) < len(PALETTE) else []
    for i, name in enumerate([*layers, "density"]):
        whole = name == "density"
        color = PALETTE[0] if whole else PALETTE[1 + i]
        y = [_number(r.get(name)) for r in history]
        label = "all" if whole else name.removeprefix(prefix).removesuffix("/kernel")
        axes.plot(x, y, color=color, linewidth=2.4 if whole else 1.6, label=label)
    if layers:
        axes.legend(fontsize=9, frameon=False, labelcolor="linecolor")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))


def _draw_bytes(axes: Axes, summary: dict[str, Any]) -> None:
    style(axes, "MB sent by all clients, each way")
    names = ["FP32", "down", "up"]
    values = [summary["fp32_bytes"], summary["bytes_down"], summary["bytes_up"]]
    factors = ["", summary["saved_down"], summary["saved_up"]]
    colors = ["#bbbbbb", PALETTE[1], PALETTE[2]]
    axes.barh(names, [v / 1e6 for v in values], color=colors, height=0.6)
    axes.grid(False, axis="y")
    for row, (value, saved) in enumerate(zip(values, factors, strict=True)):
        text = words.megabytes(value)
        if saved:
            text += f"\n{words.saving(saved)}"
        inside = value > 0.6 * max(values)
        axes.annotate(
            text, (value / 1e6, row), (-6 if inside else 6, 0),
            textcoords="offset points", ha="right" if inside else "left",
            va="center", fontsize=12,
        )  # fmt: skip
    axes.set_ylim(-0.6, 2.6)
