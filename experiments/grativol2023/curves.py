"""The study's two figures: accuracy by round of quantized and of pruned clients."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

Curve = tuple[list[int], list[float]]
"""Rounds, and percent after each of them."""


def draw(curves: dict[str, Curve], path: Path) -> None:
    """A row for each number of local epochs; the reference is in every panel.

    Args:
      curves: by the name of the cell, as in "prune 90 %, E = 1".
      path: the PNG.
    """
    epochs = sorted({_parts(name)[1] for name in curves}, key=lambda e: int(e or 0))
    size = (11, 4.4 * len(epochs))
    figure, rows = pyplot.subplots(len(epochs), 2, figsize=size, squeeze=False)
    for count, row in zip(epochs, rows, strict=True):
        mine = {_parts(n)[0]: c for n, c in curves.items() if _parts(n)[1] == count}
        kinds = {
            "Quantized clients": {n: c for n, c in mine.items() if "prune" not in n},
            "Pruned clients": {
                n: c for n, c in mine.items() if "prune" in n or n == "reference"
            },
        }
        for axes, (title, shown) in zip(row, kinds.items(), strict=True):
            note = f", E = {count}" if count else ""
            axes.set_title(title + note, loc="left", weight="bold")
            axes.set_xlabel("round")
            axes.set_ylabel("test accuracy, %")
            axes.grid(True, color="#dddddd")
            axes.spines[["top", "right"]].set_visible(False)
            colors = pyplot.colormaps["viridis"]
            for i, (name, (x, y)) in enumerate(shown.items()):
                color = "black" if name == "reference" else colors(i / len(shown))
                axes.plot(x, y, color=color, label=f"{name}  {y[-1]:.1f}")
            if shown:
                axes.legend(frameon=False, title="and % at the end")
        top = max(axes.get_ylim()[1] for axes in row)
        for axes in row:
            axes.set_ylim(0, top)
            axes.set_xlim(left=0)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _parts(name: str) -> tuple[str, str]:
    """Setting and local epochs (none where the name does not say)."""
    setting, _, epochs = name.partition(", E = ")
    return setting, epochs.partition(",")[0]
