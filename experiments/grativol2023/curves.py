"""The study's two figures: accuracy by round of quantized and of pruned clients."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

Curve = tuple[list[int], list[float]]
"""Rounds, and percent after each of them."""
PANELS = ("Quantized clients", "Pruned clients", "Others")


def draw(curves: dict[str, Curve], path: Path) -> None:
    """A row for each number of local epochs, a panel for each kind of client.

    References are drawn in all panels, in black, each with a stroke of its own; a panel
    without others is left out.

    Args:
      curves: by the name of the cell, as in "prune 90 %, E = 1, seed 0", of which the
        ends may be missing.
      path: the PNG.
    """
    epochs = sorted({_epochs(name) for name in curves}, key=lambda e: int(e or 0))
    kinds = [k for k in PANELS if any(_panel(name) == k for name in curves)]
    kinds = kinds or ["Reference"]
    shape = len(epochs), len(kinds)
    size = 5.5 * shape[1], 4.4 * shape[0]
    figure, rows = pyplot.subplots(*shape, figsize=size, squeeze=False)
    for count, row in zip(epochs, rows, strict=True):
        mine = {name: c for name, c in curves.items() if _epochs(name) == count}
        for axes, kind in zip(row, kinds, strict=True):
            shown = {n: c for n, c in mine.items() if _panel(n) in (kind, "")}
            note = f", E = {count}" if count else ""
            axes.set_title(kind + note, loc="left", weight="bold")
            axes.set_xlabel("round")
            axes.set_ylabel("test accuracy, %")
            axes.grid(True, color="#dddddd")
            axes.spines[["top", "right"]].set_visible(False)
            colors = pyplot.colormaps["viridis"]
            strokes = itertools.cycle(("-", "--", ":", "-."))
            for i, (name, (x, y)) in enumerate(shown.items()):
                style = {"color": colors(i / len(shown)), "linestyle": "-"}
                if _panel(name) == "":
                    style = {"color": "black", "linestyle": next(strokes)}
                label = re.sub(r", E = \d+", "", name)
                axes.plot(x, y, label=f"{label}  {y[-1]:.1f}", **style)
            if shown:
                axes.legend(frameon=False, title="and % at the end")
        top = max(axes.get_ylim()[1] for axes in row)
        for axes in row:
            axes.set_ylim(0, top)
            axes.set_xlim(left=0)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _epochs(name: str) -> str:
    """Local epochs, or nothing where the name does not say."""
    found = re.search(r", E = (\d+)", name)
    return found[1] if found else ""


def _panel(name: str) -> str:
    """Where a cell is drawn; nothing for a reference, which is drawn everywhere."""
    setting = name.partition(",")[0]
    if setting == "reference":
        return ""
    if "prune" in setting:
        return PANELS[1]
    return PANELS[0] if "bit" in setting else PANELS[2]
