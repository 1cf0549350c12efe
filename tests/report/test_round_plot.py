"""The clients of a round as bars: who waited for whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fedjax_compress.report.plots import PALETTE
from fedjax_compress.report.round_plot import MOST, Bars, draw_round

NO = np.zeros(4, bool)


def bars(**changes: Any) -> Bars:
    """Of 30, 60, 90 and 300 s; the round ends with the third, the last is late."""
    seconds = np.array([30.0, 60.0, 90.0, 300.0])
    parts = seconds / 3, seconds / 3, seconds / 3
    late = np.array([False, False, False, True])
    return Bars(np.array([7, 5, 3, 1]), *parts, 90.0, late, NO)._replace(**changes)


def lengths(axes: Any, color: str, faint: bool = False) -> dict[int, float]:
    """Of the segments of a color, by row."""
    return {
        round(p.get_y() + p.get_height() / 2): p.get_width()
        for p in axes.patches
        if to_hex(p.get_facecolor()) == color
        and (p.get_alpha() != 1) == faint
        and not p.get_hatch()
    }


def test_every_second_of_a_client_is_drawn(tmp_path: Path) -> None:
    (axes,) = draw_round(4, bars(), tmp_path / "r.png").axes
    assert axes.get_xlabel() == "virtual time, min; faint: not waited for"
    third = {0: 1 / 6, 1: 1 / 3, 2: 1 / 2}
    assert lengths(axes, PALETTE[1]) == pytest.approx(third | {3: 1.5})
    assert lengths(axes, PALETTE[2]) == pytest.approx(third)
    assert lengths(axes, "#d9d9d9") == pytest.approx({0: 1.0, 1: 0.5})
    assert lengths(axes, PALETTE[1], faint=True) == pytest.approx({3: 1 / 6})
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == ["7", "5", "3", "late, 1"]
    assert list(axes.lines[0].get_xdata()) == [1.5, 1.5]
    texts = [t.get_text() for t in axes.texts]
    assert texts == ["\N{RIGHTWARDS ARROW} 5 min 0 s", "end of the round: 1 min 30 s"]
    assert sum(p.get_hatch() is not None for p in axes.patches) == 1


def test_the_lost_do_not_wait(tmp_path: Path) -> None:
    lost = np.array([True, False, False, False])
    figure = draw_round(4, bars(lost=lost), tmp_path / "r.png")
    (axes,) = figure.axes
    assert set(lengths(axes, "#d9d9d9")) == {1}
    assert axes.get_yticklabels()[0].get_text() == "lost, 7"
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names == ["download", "computing", "upload", "waiting", "late", "lost"]


def test_where_nobody_waits_there_is_no_end(tmp_path: Path) -> None:
    figure = draw_round(4, bars(end=None, late=NO), tmp_path / "r.png")
    (axes,) = figure.axes
    assert lengths(axes, "#d9d9d9") == {}
    assert not axes.texts
    assert axes.get_title(loc="left").startswith("Step 4: its clients, each from when")
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names == ["download", "computing", "upload"]


def test_only_the_slowest_of_many(tmp_path: Path) -> None:
    count = 100
    seconds = np.random.default_rng(0).permutation(count) + 1.0
    none = np.zeros(count, bool)
    many = Bars(np.arange(count), seconds, 0 * seconds, seconds, 200.0, none, none)
    (axes,) = draw_round(1, many, tmp_path / "r.png").axes
    title = axes.get_title(loc="left")
    assert title == "Round 1: the 40 slowest of 100 clients, and who waited for whom"
    shown = [int(t.get_text()) for t in axes.get_yticklabels()]
    assert list(seconds[shown]) == list(range(count - MOST + 1, count + 1))


def test_a_round_may_take_no_time(tmp_path: Path) -> None:
    nothing = np.zeros(4)
    free = bars(download=nothing, compute=nothing, upload=nothing, end=0.0, late=NO)
    draw_round(1, free, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 5000
