"""What is kept of grids, drawn again: several in one picture, by their own metric."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from fedjax_compress.report import grid_plots

TABLE = Path(__file__).parents[2] / "experiments" / "table.py"
WER = {"name": "wer", "better": "lower", "unit": "%"}


def scheme(name: str, error: float, up: int) -> dict:
    one = {"mean": float(up), "spread": None, "values": [up]}
    score = {"mean": error, "spread": None, "values": [error]}
    # Nobody is on the front of its own grid, so that the one shown is of all.
    content = {"name": name, "pareto": False, "metric": WER, "test_wer": score}
    return content | {"bytes_up": one, "bytes_down": one}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    found: list = []
    draw = grid_plots.draw_grid

    def noted(schemes: list, path: Path, score: object) -> object:
        found.append((schemes, score))
        return draw(schemes, path, score)

    monkeypatch.setattr(grid_plots, "draw_grid", noted)
    return found


def test_schemes_of_two_grids_share_a_picture_and_a_front(
    tmp_path: Path, drawn: list
) -> None:
    """The lower error is the better one: of equal bytes the worse is off the front."""
    grids = {
        "one": [scheme("large", 0.1, 9_000_000), scheme("bad", 0.5, 2_000_000)],
        "other": [scheme("small", 0.2, 2_000_000)],
    }
    for name, schemes in grids.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"schemes": schemes}))
    redraw = runpy.run_path(str(TABLE))["redraw"]
    redraw(tmp_path / "all", [tmp_path / f"{name}.json" for name in grids])
    ((schemes, score),) = drawn
    assert (score.key, score.better) == ("test_wer", "lower")
    assert {s["name"]: s["pareto"] for s in schemes} == {
        "large": True,
        "bad": False,
        "small": True,
    }
    assert schemes[0]["megabytes"] == {"mean": 18.0, "spread": None}
    assert (tmp_path / "all.png").stat().st_size > 10_000
