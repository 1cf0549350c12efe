"""Comparisons, which are grids of one seed, and reports of runs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedjax_compress.cli.commands import main
from fedjax_compress.compress import parse
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import (
    SCHEMES,
    Config,
    Grid,
    Scheme,
    compare,
    load_grid,
    load_toml,
)
from fedjax_compress.experiment.grid import parse_scheme
from fedjax_compress.experiment.toml import format_toml
from fedjax_compress.report import files, grid_plots, records, report
from fedjax_compress.report.reporting import curve_of, read_finished
from fedjax_compress.report.tables import figures_of, table


def scheme(name: str, uplink: str, downlink: str | None = None) -> Scheme:
    links = {"uplink": uplink}
    return Scheme(name, links if downlink is None else links | {"downlink": downlink})


TWO = (scheme("plain", "identity", "identity"), scheme("half", "cast(float16)"))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison of two schemes, three rounds each."""
    folder = tmp_path_factory.mktemp("compared") / "both"
    compare(small(), TWO, folder, quiet=True)
    return folder


def small() -> Config:
    return Config(
        clients=8,
        cohort=4,
        rounds=3,
        model="logistic",
        local="sgd(lr=0.1, steps=2, batch=5)",
        downlink="cast(bfloat16)",
        evaluate_every=1,
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a=identity", scheme("a", "identity")),
        ("4 bit = uniform(bits=4)", scheme("4 bit", "uniform(bits=4)")),
        ("uniform(bits=4)", scheme("uniform(bits=4)", "uniform(bits=4)")),
        ("hadamard | qsgd(bits=4)", scheme(*["hadamard | qsgd(bits=4)"] * 2)),
        ("a=identity; qsgd(bits=4)", scheme("a", "identity", "qsgd(bits=4)")),
        ("identity;cast(float16)", scheme("identity", "identity", "cast(float16)")),
    ],
)
def test_schemes_are_read(text: str, wanted: Scheme) -> None:
    assert parse_scheme(text) == wanted


@pytest.mark.parametrize("text", ["", "a=", "a=;identity", " = "])
def test_schemes_without_uplink_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="has no uplink"):
        parse_scheme(text)


def test_default_schemes_are_six_and_can_be_built() -> None:
    assert len(SCHEMES) >= 6
    assert SCHEMES[0] == scheme("FP32", "identity", "identity")
    assert len({s.name for s in SCHEMES}) == len(SCHEMES)
    for one in SCHEMES:
        parse(one.settings["uplink"])


def test_comparison(compared: Path) -> None:
    content = files.read_json(compared / files.GRID_RESULT)
    for name in (files.GRID_PLOT, files.COMPARISON_PLOT):
        assert (compared / name).stat().st_size > 10_000
    plain, half = content["schemes"]
    assert content["seeds"] == [0]
    assert [plain["name"], half["name"]] == ["plain", "half"]
    assert [plain["downlink"], half["downlink"]] == ["identity", "cast(bfloat16)"]
    assert plain["rounds"] == half["rounds"] == 3
    assert 1.8 < half["saved_up"]["mean"] <= 2
    assert 0.9 < plain["saved_up"]["mean"] <= 1
    for found in content["schemes"]:
        (one,) = found["runs"]
        summary = files.read_json(compared / one["folder"] / files.SUMMARY)
        assert {k: one[k] for k in summary} == summary
        assert [r["round"] for r in one["curve"]] == [1, 2, 3]
        assert one["curve"][-1]["bytes_up"] == summary["bytes_up"]
    first, other = (
        load_toml(compared / s["runs"][0]["folder"] / files.CONFIG)
        for s in (plain, half)
    )
    changes = {"uplink": other.uplink, "downlink": other.downlink}
    assert dataclasses.replace(first, **changes) == other


def test_a_comparison_is_a_grid_of_one_seed(compared: Path, tmp_path: Path) -> None:
    """From options, from a file, or from Python: the folders are alike."""
    settings = dataclasses.asdict(small())
    lines = [f"{k} = {format_toml(v)}" for k, v in settings.items()]
    text = "\n".join(lines).replace("rounds = 3", "rounds = 1")
    (tmp_path / "c.toml").write_text(text)
    argv = ["compare", str(tmp_path / "c.toml"), "--quiet", "--rounds", "3"]
    argv += ["--scheme", "plain=identity;identity", "--scheme", "half=cast(float16)"]
    assert main([*argv, "--only", "half", "--output", str(tmp_path / "d")]) == 0
    assert main(["resume", str(tmp_path / "d"), "--quiet"]) == 0
    assert load_grid(tmp_path / "d" / files.GRID) == Grid(small(), TWO, (0,))
    grid = (compared / files.GRID).read_text()
    assert (tmp_path / "d" / files.GRID).read_text() == grid
    ours, theirs = (
        [s["runs"][0]["parameters_sha256"] for s in files.read_json(p)["schemes"]]
        for p in (compared / files.GRID_RESULT, tmp_path / "d" / files.GRID_RESULT)
    )
    assert ours == theirs


def test_curves_are_named_by_their_schemes(
    compared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one seed, which says nothing."""
    drawn: list[str] = []

    def draw(curves: list[tuple[str, Any]], *rest: Any) -> None:
        drawn.extend(name for name, _ in curves)

    monkeypatch.setattr(grid_plots, "draw_curves", draw)
    compare(small(), TWO, compared, quiet=True)
    assert drawn == ["plain", "half"]


def test_a_comparison_of_an_earlier_version_is_refused(
    compared: Path, finished: Path, tmp_path: Path
) -> None:
    """It had a run in the folder of each scheme, and compare.json in the end."""
    shutil.copytree(finished, tmp_path / "plain")
    with pytest.raises(InputError, match="comparison of an earlier version"):
        compare(small(), TWO, tmp_path, quiet=True)
    (tmp_path / files.COMPARISON).touch()
    with pytest.raises(InputError, match="already holds a run or a comparison"):
        compare(small(), TWO, tmp_path, quiet=True)


def test_all_schemes_are_checked_before_one_runs(tmp_path: Path) -> None:
    schemes = (TWO[0], scheme("bad", "hadamard | unifrm"))
    with pytest.raises(InputError, match="did you mean 'uniform'"):
        compare(small(), schemes, tmp_path / "new", quiet=True)
    twice = (scheme("a b", "identity"), scheme("a-b", "identity"))
    with pytest.raises(InputError, match="share the folder 'a-b'"):
        compare(small(), twice, tmp_path / "new", quiet=True)
    slip = (Scheme("a", {"uplnk": "identity"}),)
    with pytest.raises(InputError, match="scheme 'a': unknown setting 'uplnk'; did"):
        compare(small(), slip, tmp_path / "new", quiet=True)
    assert not (tmp_path / "new").exists()


def test_report(compared: Path, finished: Path, tmp_path: Path, capsys: Any) -> None:
    content = report([compared, finished], tmp_path / "out")
    names = [s["name"] for s in content["schemes"]]
    assert names == ["plain", "half", finished.name]
    assert files.read_json(tmp_path / "out" / files.COMPARISON) == content
    assert (tmp_path / "out" / files.COMPARISON_PLOT).exists()
    text = capsys.readouterr().out
    for word in ("plain", "half", finished.name, "error_feedback(top_k(0.1))"):
        assert word in text
    again = report([tmp_path / "out"], tmp_path / "third", quiet=True)
    assert [s["name"] for s in again["schemes"]] == names


def test_runs_of_one_name_are_told_apart(finished: Path, tmp_path: Path) -> None:
    content = report([finished, finished], tmp_path / "out", quiet=True)
    assert {s["name"] for s in content["schemes"]} == {str(finished)}


def test_report_needs_finished_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one run"):
        report([], tmp_path / "out")
    with pytest.raises(InputError, match="there is no folder"):
        report([tmp_path / "none"], tmp_path / "out")
    with pytest.raises(InputError, match="holds no run"):
        report([tmp_path], tmp_path / "out")
    (tmp_path / files.CONFIG).touch()
    with pytest.raises(InputError, match="not finished; go on with"):
        report([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_table_drops_specifications_on_narrow_consoles(finished: Path) -> None:
    rows = [figures_of([read_finished(finished).summary]) | {"name": "one"}]
    assert len(table(rows, Console(width=200)).columns) == 9
    assert len(table(rows, Console(width=80)).columns) == 7


def test_curve_sums_bytes_between_evaluations(finished: Path) -> None:
    history = records.read(finished / files.METRICS)
    curve = curve_of(history)
    assert [r["round"] for r in curve] == [2, 4, 6]
    assert curve[1]["bytes_up"] == sum(r["bytes_up"] for r in history[:4])
    assert curve[1]["test_loss"] == history[3]["test_loss"]
