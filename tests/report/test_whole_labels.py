"""Every word of every picture lies inside it, however long names and labels are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedjax_compress.cli import bench_plots
from fedjax_compress.clients.skew import Labels
from fedjax_compress.report import grid_plots, partition_plot, plots, round_plot

LONG = "a scheme that somebody has named at great length, with its options"


def check_whole(figure: Figure) -> None:
    """All that is drawn, and each text that the layout does not count, in pixels."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    figure.canvas.draw()
    drawn = figure.get_tightbbox(renderer)
    width, height = figure.get_size_inches()
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent(renderer)
            assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, text.get_text()
            assert 0 <= box.y0 < box.y1 <= figure.bbox.y1, text.get_text()


def figures(*values: float) -> dict[str, Any]:
    return {"mean": sum(values) / len(values), "spread": 0.01 * values[0]}


def grid(count: int) -> list[dict[str, Any]]:
    """Schemes that all send as much down, which the label of the axis says."""
    return [
        {
            "name": f"{LONG} {i}" if i % 2 else f"{i}",
            "pareto": i == 0,
            "megabytes": figures(5e3 + 1e3 * i),
            "bytes_up": figures(1e9 * (i + 1)),
            "bytes_down": figures(123_456_789_012.0),
            "test_accuracy": figures(0.9 + 0.01 * i),
        }
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 4, 14])
def test_grid(count: int, tmp_path: Path) -> None:
    figure = grid_plots.draw_grid(grid(count), tmp_path / "grid.png")
    check_whole(figure)
    label = " ".join(figure.axes[0].get_xlabel().split())
    assert label.endswith("filled and joined: nothing better for less")
    assert "MB down" in label or count == 1


def test_comparison(tmp_path: Path) -> None:
    rounds = [
        {"test_accuracy": 0.1 * i, "bytes_up": 10**i, "bytes_down": 5} for i in (1, 9)
    ]
    check_whole(grid_plots.draw_curves([(LONG, rounds), ("b", rounds)], tmp_path / "c"))


@pytest.mark.parametrize("pruned", [False, True])
def test_run(pruned: bool, tmp_path: Path) -> None:
    history = [
        {
            "round": i,
            "test_accuracy": 0.5,
            "client_accuracy_p10": 0.4,
            "train_loss": 12345.678,
            **({"density": 1 / i, f"density/{LONG}": 1 / i} if pruned else {}),
        }
        for i in (1, 100_000)
    ]
    summary = {"fp32_bytes": 10**15, "bytes_down": 10**15, "bytes_up": 9 * 10**14}
    summary |= {"saved_up": 1.1, "saved_down": 1.0}
    check_whole(plots.draw_run(history, summary, tmp_path / "r.png"))


@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("waits", [True, False])
def test_round(count: int, waits: bool, tmp_path: Path) -> None:
    """Late clients of days, of which the picture says so at its side."""
    seconds = 1000.0 * np.arange(1, count + 1)
    gone = seconds > 9000 if waits else np.zeros(count, bool)
    lost = gone & (np.arange(count) % 2 == 0)
    ids = np.arange(count) + 123_456_789
    bars = round_plot.Bars(
        ids, seconds, seconds, 9 * seconds, min(99e3, seconds[-1] * 11) if waits else
        None, gone & ~lost, lost,
    )  # fmt: skip
    check_whole(round_plot.draw_round(100_000, bars, tmp_path / "r.png"))


def measured(contender: str, clients: int) -> dict[str, Any]:
    return {
        "contender": contender,
        "workload": "W2",
        "clients": clients,
        "samples_per_second": 1e6 / clients,
        "device_peak_mb": None,
        "peak_rss_mb": 1e6 + clients,
        "time_to_first": 1 + clients / 1e4,
        "bytes_up_per_client": 1e9,
        "algorithm": "fedavg",
        "qat": "none",
        "uplink": f"top_k({clients / 1e6}) | qsgd(bits=4, bucket=128) | {LONG[:20]}",
        "downlink": "identity",
    }


def test_sweep(tmp_path: Path) -> None:
    results = [measured(c, n) for c in ("engine", "loop") for n in (10, 100_000)]
    results.append(measured("bound", 10))
    check_whole(bench_plots.draw_sweep(results, "clients", tmp_path / "s.png"))


def test_links(tmp_path: Path) -> None:
    results = [measured("engine", n) for n in (10, 100, 100_000)]
    check_whole(bench_plots.draw_links(results, tmp_path / "l.png"))


@pytest.mark.parametrize(("clients", "labels"), [(1, 1), (40, 12), (300, 150)])
def test_partition(clients: int, labels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = rng.geometric(1e-6, (clients, labels))
    names = tuple(f"{LONG} {i}" if i % 3 else f"{i}" for i in range(labels))
    found = partition_plot.Picture(
        f"{LONG}; {LONG}; {LONG}",
        Labels(LONG, names, counts),
        counts.sum(axis=1),
        rng.random(clients),
        rng.random(clients),
    )
    check_whole(partition_plot.draw_partition(found, tmp_path / "p.png"))
