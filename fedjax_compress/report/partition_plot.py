"""Who has what: the labels of clients, their sizes, and how far they differ."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fedjax_compress.clients.skew import Labels
from fedjax_compress.report.plots import PALETTE, new_figure, save, style

Array = np.ndarray
MOST_BARS = 120
"""Clients up to which each has a bar."""
MOST_COLORS = 12
"""Labels up to which each has a color of its own."""
MOST_COLUMNS = 1000
"""Clients up to which each has a column."""
MOST_ROWS = 100
"""Labels up to which each has a row."""
_SHADES = LinearSegmentedColormap.from_list("", ["#ffffff", PALETTE[1], "#001d2e"])
_PALE = 0.45
_EQUAL = 1.1
"""Largest beside smallest client up to which all count as equally large."""
_FEW, _FEWEST = 30, 6
"""Sizes up to which each has a bar, and for which there is room at least."""
_WIDE, _LONG = 130, 24
"""Letters in a line of the title, and of the name of a label."""


class Picture(NamedTuple):
    """What is drawn.

    Attributes:
      title: the data and the partition, in words.
      labels: of each client.
      sizes: int [clients], rows of each.
      distances: float [clients], from all together; NaN where a client has no label.
      shuffled: the same where rows are shuffled among clients of these sizes.
    """

    title: str
    labels: Labels
    sizes: Array
    distances: Array
    shuffled: Array


def draw_partition(picture: Picture, path: Path) -> Figure:
    """Labels by client, and how sizes and distances are spread.

    Few clients with few labels are bars of rows, the largest first. All others are
    columns of a map of shares, where they stand in order of size as well, or of the
    label that they have most of if all are about as large.

    Args:
      picture: what is drawn.
      path: the PNG, or an SVG where its name ends so.
    """
    picture = picture._replace(labels=_occurring(picture.labels))
    figure = new_figure(13, 8.4)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    top, bottom = parts
    title = textwrap.fill(picture.title, _WIDE)
    top.suptitle(title, x=0.01, ha="left", fontsize=12)
    clients, labels = picture.labels.counts.shape
    if clients <= MOST_BARS and labels <= MOST_COLORS:
        _bars(top.subplots(), picture)
    else:
        _map(top.subplots(), picture)
    sizes, distances = bottom.subplots(1, 2)
    _sizes(sizes, picture.sizes)
    _distances(distances, picture)
    save(figure, path)
    return figure


def _occurring(labels: Labels) -> Labels:
    """Without those that nobody has, unless nobody has any."""
    shown = np.flatnonzero(labels.counts.sum(axis=0))
    if not len(shown):
        return labels
    names = tuple(labels.names[i] for i in shown)
    return labels._replace(names=names, counts=labels.counts[:, shown])


def _by_size(sizes: Array) -> Array:
    """Clients, the largest first."""
    return np.argsort(-sizes, kind="stable")


def _how(sizes: Array) -> str:
    return "by id" if sizes.max() == sizes.min() else "the largest first"


def _columns(picture: Picture) -> tuple[Array, str]:
    """The clients of a map in their order, and what to say of it.

    Of more than ``MOST_COLUMNS`` there are so many, evenly spaced.
    """
    order, how = _by_size(picture.sizes), _how(picture.sizes)
    if picture.sizes.max() <= _EQUAL * picture.sizes.min() + 1:
        ranks = np.argsort(-picture.labels.counts, axis=1, kind="stable")
        second = ranks[:, min(1, ranks.shape[1] - 1)]
        most = picture.labels.counts.max(axis=1)
        order = np.lexsort([second, -most, ranks[:, 0]])
        how = "by what they have most of"
    count = len(order)
    if count <= MOST_COLUMNS:
        return order, f"{_people(count)}, {how}"
    order = order[np.linspace(0, count - 1, MOST_COLUMNS).round().astype(int)]
    return order, f"{len(order):,} of {_people(count)}, evenly spaced, {how}"


def _people(count: int) -> str:
    return f"{count:,} client{'s' * (count > 1)}"


def _bars(axes: Axes, picture: Picture) -> None:
    """A bar for each client, its rows stacked by label."""
    order = _by_size(picture.sizes)
    labels, counts = picture.labels, picture.labels.counts[order]
    rows = bool((counts.sum(axis=1) == picture.sizes[order]).all())
    unit = "rows" if rows else labels.what
    who = f"{_people(len(order))}, {_how(picture.sizes)}"
    style(axes, f"Who has what: {unit} of each client", who, unit)
    axes.grid(False, axis="x")
    bottom = np.zeros(len(order))
    colors = _colors(counts.shape[1], labels.ordered)
    for column, color in zip(counts.T, colors, strict=True):
        axes.bar(
            range(len(order)), column, bottom=bottom, width=0.86, color=color,
            edgecolor="white", linewidth=0.5 if len(order) <= 60 else 0,
        )  # fmt: skip
        bottom += column
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_ylim(0, 1.04 * max(bottom.max(), 1))
    _name_clients(axes, order)
    handles = [
        Patch(color=color, label=_brief(name))
        for color, name in zip(colors, labels.names, strict=True)
    ]
    axes.legend(
        handles=handles[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.02),
        frameon=False, fontsize=10, title=labels.what, title_fontsize=10,
    )  # fmt: skip


def _map(axes: Axes, picture: Picture) -> None:
    """A column for each client: the share of each label among its own."""
    order, who = _columns(picture)
    counts, names, together = _rows(picture.labels)
    counts = counts[order].astype(np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    what = picture.labels.what
    beside = f"{what}, {together} in a row" if together > 1 else what
    style(axes, f"Who has what: shares of {what} by client", who, beside)
    axes.grid(False)
    right = len(picture.sizes) - 0.5  # places among all, where only some are drawn
    drawn = axes.imshow(
        shares.T, aspect="auto", interpolation="nearest", cmap=_SHADES,
        extent=(-0.5, right, len(names) - 0.5, -0.5),
    )  # fmt: skip
    drawn.set_clim(0, max(shares.max(), 1e-9))
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.01, aspect=18)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g} %"))
    bar.outline.set_visible(False)
    _name_clients(axes, order)
    if len(names) <= 16:
        axes.set_yticks(range(len(names)), names)
        return
    axes.yaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda v, _: names[int(v)] if 0 <= v < len(names) else "")
    )


def _rows(labels: Labels) -> tuple[Array, list[str], int]:
    """Counts and names of labels, and how many share a row.

    Of more than ``MOST_ROWS`` neighbours do, by the name of the first.
    """
    together = -(-len(labels.names) // MOST_ROWS)
    firsts = np.arange(0, len(labels.names), together)
    counts = np.add.reduceat(labels.counts, firsts, axis=1)
    return counts, [_brief(labels.names[i]) for i in firsts], together


def _brief(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[: _LONG - 1]}\N{HORIZONTAL ELLIPSIS}"


def _name_clients(axes: Axes, order: Array) -> None:
    """Ids of a few clients, or places of many."""
    if len(order) <= 40:
        axes.set_xticks(range(len(order)), [str(i) for i in order])
        axes.tick_params(axis="x", labelsize=9, length=0)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_whole))


def _colors(count: int, ordered: bool) -> list[str]:
    """Colors of labels: shades where they stand on a scale, else hues, then paler."""
    if ordered:
        return [to_hex(_SHADES(x)) for x in np.linspace(0.12, 1.0, count)]
    return [*PALETTE[1:], *map(_pale, PALETTE[1:])][:count]


def _pale(color: str) -> str:
    red, green, blue = (1 - _PALE * (1 - x) for x in to_rgb(color))
    return to_hex((red, green, blue))


def _sizes(axes: Axes, sizes: Array) -> None:
    """How many clients have how many rows."""
    low, middle, high = int(sizes.min()), float(np.median(sizes)), int(sizes.max())
    spread = f"{low:,} each"
    if low < high:
        spread = f"{low:,} to {high:,}, median {middle:,.6g}"
    style(axes, f"Rows of a client: {spread}", "rows", "clients")
    axes.grid(False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(_whole))
    if high - low < _FEW:
        room = max(0.0, 0.5 * (_FEWEST - (high - low)))
        axes.bar(*np.unique(sizes, return_counts=True), color=PALETTE[1], width=0.86)
        axes.set_xlim(max(low - room, 0) - 0.6, high + room + 0.6)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_whole))
        return
    if high > 30 * low:
        bins = np.geomspace(low, high, 25).tolist()
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        bins = np.linspace(low, high, 25).tolist()
    axes.xaxis.set_major_formatter(FuncFormatter(_whole))
    axes.hist(sizes, bins=bins, color=PALETTE[1], edgecolor="white", linewidth=0.5)


def _whole(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _distances(axes: Axes, picture: Picture) -> None:
    """How far clients are from the whole, and would be if rows were shuffled."""
    style(
        axes,
        "How far each client is from the whole",
        "total variation distance; 0: the mix of all together",
        "clients",
    )
    axes.grid(False, axis="x")
    bins = np.linspace(0, 1, 41).tolist()
    looks: list[dict[str, Any]] = [
        {"color": PALETTE[1], "edgecolor": "white", "linewidth": 0.5},
        {"color": PALETTE[0], "histtype": "step", "linewidth": 1.6},
    ]
    each = {"these clients": picture.distances, "rows shuffled": picture.shuffled}
    for (name, values), look in zip(each.items(), looks, strict=True):
        known = values[~np.isnan(values)]
        mean = f"mean {known.mean():.2f}" if len(known) else "no labels"
        axes.hist(known, bins=bins, label=f"{name}: {mean}", **look)
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(_whole))
    axes.legend(fontsize=10, frameon=False)
