"""Plots: written, and every name readable: inside the picture, over nothing else."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedjax_compress.report import grid_plots, plots

PNG = b"\x89PNG\r\n\x1a\n"


def curve(megabytes: float, accuracy: float, rounds: int = 12) -> list[dict[str, Any]]:
    """A curve that rises to ``accuracy`` while ``megabytes`` travel, half each way."""
    found = []
    for i in range(1, rounds + 1):
        sent = round(megabytes * 1e6 * i / rounds / 2)
        score = accuracy * (1 - np.exp(-4 * i / rounds)) / (1 - np.exp(-4))
        found.append({"test_accuracy": score, "bytes_up": sent, "bytes_down": sent})
    return found


def check_names(figure: Figure, names: list[str]) -> None:
    """No name overlaps another name, the rule of another, a line, or the border."""
    (axes,) = figure.axes
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = axes.texts
    assert [t.get_text().rsplit("  ", 1)[0] for t in texts] == names
    boxes = [t.get_window_extent(renderer) for t in texts]
    inside = figure.bbox
    for box in boxes:
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1
    for a, b in combinations(boxes, 2):
        assert not a.overlaps(b)
    for line in axes.lines:
        points = axes.transData.transform(np.column_stack(line.get_data()))
        for box in boxes:
            if len(points) == 1:
                assert not box.contains(*points[0])
            for (x0, y0), (x1, y1) in pairwise(points):
                t = np.linspace(0, 1, 400)
                x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
                hit = (x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)
                assert not hit.any()


CASES = {
    "typical": [(46, 0.96), (10, 0.96), (7.3, 0.961), (5.9, 0.95), (4.7, 0.91)],
    "same bytes": [(10, 0.9), (10, 0.9), (10, 0.5)],
    "one": [(3, 0.8)],
    "nothing learnt": [(1, 0.1), (100, 0.1)],
    "far apart": [(0.001, 0.2), (1e5, 1.0)],
    "many": [(2.0 ** (i / 2), 0.9 + 0.005 * i) for i in range(14)],
}


@pytest.mark.parametrize("case", list(CASES))
def test_names_do_not_overlap(case: str, tmp_path: Path) -> None:
    names = [f"scheme {i} of {case}" for i in range(len(CASES[case]))]
    curves = [
        (n, curve(mb, top)) for n, (mb, top) in zip(names, CASES[case], strict=True)
    ]
    figure = grid_plots.draw_curves(curves, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(PNG)
    check_names(figure, names)


def test_random_ends_do_not_overlap(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        count = int(rng.integers(2, 9))
        names = [f"name {'x' * int(rng.integers(0, 25))} {i}" for i in range(count)]
        curves = [
            (n, curve(float(10 ** rng.uniform(-1, 3)), float(rng.uniform(0.1, 1))))
            for n in names
        ]
        check_names(grid_plots.draw_curves(curves, tmp_path / "c.png"), names)


def test_all_colors_are_dark_enough_for_letters() -> None:
    """Contrast with white of at least 4.5 (WCAG 2.1's formula, level AA)."""
    for color in plots.PALETTE:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
            for c in channels
        ]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (light + 0.05) >= 4.5, color


def a_run(clients: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Ten rounds, two of them evaluated, and what they add up to."""
    history: list[dict[str, Any]] = []
    for number in range(1, 11):
        record = {"round": number, "train_loss": None if number == 4 else 1 / number}
        if number % 5 == 0:
            record["test_accuracy"] = number / 20
            if clients:
                record["client_accuracy_p10"] = number / 30
        history.append(record)
    summary = {
        "fp32_bytes": 32_000_000,
        "bytes_up": 4_000_000,
        "bytes_down": 30_000_000,
        "saved_up": 8.0,
        "saved_down": 32 / 30,
    }
    return history, summary


@pytest.mark.parametrize("clients", [False, True])
def test_run_plot(tmp_path: Path, clients: bool) -> None:
    history, summary = a_run(clients)
    figure = plots.draw_run(history, summary, tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(PNG)
    accuracy, _, sizes = figure.axes
    assert accuracy.get_title(loc="left") == "Test accuracy: 50.0 %"
    assert [t.get_text() for t in sizes.texts] == [
        "32.0 MB",
        "30.0 MB\n1.1x fewer",
        "4.00 MB\n8.0x fewer",
    ]
    assert len(accuracy.lines) == 1 + clients


def test_the_picture_of_a_run_shows_the_density_of_each_layer(tmp_path: Path) -> None:
    history, summary = a_run(clients=False)
    for i, record in enumerate(history):
        record["density"] = 1.0 - 0.05 * i
        record["density/dense/kernel"] = 1.0 - 0.1 * i
    figure = plots.draw_run(history, summary, tmp_path / "r.png")
    density = figure.axes[3]
    last = 100 * history[-1]["density"]
    assert density.get_title(loc="left") == f"In use: {last:.1f} %"
    assert [line.get_label() for line in density.lines] == ["dense", "all"]
    np.testing.assert_allclose(
        density.lines[0].get_ydata(), [r["density/dense/kernel"] for r in history]
    )
