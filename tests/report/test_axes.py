"""What scores are shown against, and what it takes to reach a target."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedjax_compress.errors import InputError
from fedjax_compress.report.axes import AXES, ENERGY, TIME, view
from fedjax_compress.report.grid_plots import draw_curves, draw_grid
from fedjax_compress.report.scores import ACCURACY, Score
from fedjax_compress.report.tables import spread, table


def curve(scores: list[float]) -> list[dict[str, Any]]:
    """A megabyte up and two down, an hour and a kilojoule a round."""
    return [
        {
            "round": i,
            "test_accuracy": score,
            "bytes_up": i * 10**6,
            "bytes_down": 2 * i * 10**6,
            "virtual_seconds": 3600.0 * i,
            "energy_joules": 1000.0 * i,
        }
        for i, score in enumerate(scores, start=1)
    ]


@pytest.mark.parametrize(
    ("axis", "highest", "unit"),
    [
        (TIME, 0.0, "ms"),
        (TIME, 0.04, "ms"),
        (TIME, 119.0, "s"),
        (TIME, 7199.0, "min"),
        (TIME, 86_400.0, "h"),
        (TIME, 1e6, "days"),
        (ENERGY, 999.0, "J"),
        (ENERGY, 1000.0, "kJ"),
        (ENERGY, 1e9, "MJ"),
    ],
)
def test_units(axis: Any, highest: float, unit: str) -> None:
    assert axis.unit(highest).name == unit


@pytest.mark.parametrize(
    ("name", "title", "label", "places"),
    [
        ("bytes", "what travelled", "MB sent up and down", [3, 6, 9]),
        ("rounds", "rounds", "rounds", [1, 2, 3]),
        ("time", "virtual time", "virtual time so far, h", [1, 2, 3]),
        ("energy", "energy", "energy of all clients so far, kJ", [1, 2, 3]),
    ],
)
def test_curves(
    name: str, title: str, label: str, places: list[float], tmp_path: Path
) -> None:
    curves = [("a", curve([0.1, 0.2, 0.3])), ("diverged", [])]
    (axes,) = draw_curves(curves, tmp_path / "c", ACCURACY, AXES[name]).axes
    assert axes.get_title(loc="left") == f"Test accuracy against {title}"
    assert axes.get_xlabel().startswith(label)
    assert list(axes.lines[0].get_xdata()) == pytest.approx(places)


def test_points_of_a_grid_stand_where_their_runs_have_ended(tmp_path: Path) -> None:
    schemes = [
        {
            "name": name,
            "pareto": True,
            "test_accuracy": {"mean": 0.5, "spread": None},
            "runs": [{"virtual_seconds": 3600.0 * h} for h in hours],
        }
        for name, hours in (("a", (1, 2)), ("b", (9, 11)))
    ]
    (axes,) = draw_grid(schemes, tmp_path / "g", ACCURACY, TIME).axes
    assert axes.get_xlabel().startswith("virtual time, h (logarithmic)")
    assert [bars.lines[0].get_xdata()[0] for bars in axes.containers] == [1.5, 10.0]


def test_the_target_is_reached_in_the_first_round_as_good() -> None:
    rounds = curve([0.5, 0.8, 0.7, 0.9])
    found = view(target=0.8).to_target(rounds, ACCURACY, timed=True)
    assert found == {"bytes_to_target": 6 * 10**6, "seconds_to_target": 7200.0}
    found = view(target=0.8).to_target(rounds, ACCURACY, timed=False)
    assert found == {"bytes_to_target": 6 * 10**6}
    found = view(target=0.95).to_target(rounds, ACCURACY, timed=True)
    assert found == {"bytes_to_target": None, "seconds_to_target": None}
    assert view().to_target(rounds, ACCURACY, timed=True) == {}
    error = Score("accuracy", "lower", "")
    found = view(target=0.75).to_target(rounds[1:], error, timed=True)
    assert found["seconds_to_target"] == 3 * 3600.0


def test_wrong_views_are_refused() -> None:
    with pytest.raises(InputError, match="axis cannot be 'tme'; did you mean 'time'"):
        view("tme")
    with pytest.raises(InputError, match="target must be a number, not nan"):
        view(target=float("nan"))
    runs = [("a", {"virtual_seconds": 1.0}), ("b", {"virtual_seconds": 0.0})]
    view("time").check(runs[:1])
    with pytest.raises(InputError, match="'b' has no virtual time: it was run without"):
        view("time").check(runs)


def row(name: str, **more: float | None) -> dict[str, Any]:
    figures = {
        "test_accuracy": 0.9, "bytes_up": 1e6, "bytes_down": 2e6, "saved_up": 8.0,
        "saved_down": 4.0, "clients_per_second": 99.0, **more,
    }  # fmt: skip
    spreads = {name: spread([value]) for name, value in figures.items()}
    links = {"uplink": "u" * 30, "downlink": "d" * 30}
    return {"name": name, "diverged": 0, **links, **spreads}


def test_the_table_tells_time_and_what_a_target_takes() -> None:
    timed = {"virtual_seconds": 7500.0, "seconds_to_target": 200.0}
    rows = [row("a", bytes_to_target=5e5, **timed), row("b", bytes_to_target=None)]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table(rows, console, target=0.8))
    head, first, second = captured.get().splitlines()
    assert re.split("  +", head)[-4:] == [
        "time", "MB to 80 %", "time to 80 %", "clients/s",
    ]  # fmt: skip
    wanted = ["2 h 5 min", "0.50", "3 min 20 s", "99"]
    assert re.split("  +", first)[-4:] == wanted
    assert second.split()[-4:] == ["-", "-", "-", "99"]


def test_narrow_tables_keep_what_was_asked_for() -> None:
    rows = [row("a", bytes_to_target=5e5, virtual_seconds=1.0)]
    names = [c.header for c in table(rows, Console(width=80), target=0.8).columns]
    assert "MB to 80 %" in names
    assert "time" in names
    assert "clients/s" not in names
    assert "up" not in names
