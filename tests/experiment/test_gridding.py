"""Grids: every scheme with every seed, nothing twice, figures that add up."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedjax_compress.cli.commands import main
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import (
    Config,
    Grid,
    Run,
    Scheme,
    StopRun,
    compare,
    gridding,
    load_grid,
    load_toml,
    resume_grid,
    run,
    run_grid,
)
from fedjax_compress.report import files, records, report
from fedjax_compress.report.grid_plots import draw_grid
from fedjax_compress.report.tables import spread, table

PNG = b"\x89PNG\r\n\x1a\n"
BASE = Config(
    clients=8,
    cohort=4,
    rounds=2,
    model="logistic",
    local="sgd(lr=0.1, steps=2, batch=5)",
    downlink="identity",
    evaluate_every=1,
    checkpoint_every=1,
)
GRID = Grid(
    BASE,
    (
        Scheme("plain", {"uplink": "identity"}),
        Scheme("few", {"uplink": "top_k(steps((0.2, 0.1), after=1))", "rounds": 2}),
    ),
    (0, 1),
)
PLACES = ["plain/seed-0", "plain/seed-1", "few/seed-0", "few/seed-1"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished grid of two schemes and two seeds, two rounds each."""
    folder = tmp_path_factory.mktemp("grids") / "both"
    run_grid(GRID, folder, quiet=True)
    return folder


def digests(folder: Path) -> list[str]:
    return [
        files.read_json(folder / place / files.SUMMARY)["parameters_sha256"]
        for place in PLACES
    ]


def times(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_every_run_is_a_run(ran: Path) -> None:
    assert load_grid(ran / files.GRID) == GRID
    for place, seed in zip(PLACES, (0, 1, 0, 1), strict=True):
        config = load_toml(ran / place / files.CONFIG)
        assert (config.seed, config.rounds) == (seed, 2)
        assert len(records.read(ran / place / files.METRICS)) == 2
    assert load_toml(ran / PLACES[3] / files.CONFIG).uplink.startswith("top_k(steps(")
    assert len(set(digests(ran))) == 4


def test_figures_add_up(ran: Path) -> None:
    content = files.read_json(ran / files.GRID_RESULT)
    assert content["seeds"] == [0, 1]
    assert [s["name"] for s in content["schemes"]] == ["plain", "few"]
    for i, scheme in enumerate(content["schemes"]):
        places = PLACES[2 * i : 2 * i + 2]
        assert [r["folder"] for r in scheme["runs"]] == places
        summaries = [files.read_json(ran / p / files.SUMMARY) for p in places]
        for name in ("test_accuracy", "bytes_up", "saved_down", "test_loss"):
            values = [s[name] for s in summaries]
            found = scheme[name]
            assert found["values"] == values
            assert found["mean"] == pytest.approx((values[0] + values[1]) / 2)
            assert found["spread"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        total = summaries[0]["bytes_up"] + summaries[0]["bytes_down"]
        assert scheme["megabytes"]["values"][0] == total / 1e6
        for one, summary in zip(scheme["runs"], summaries, strict=True):
            assert {k: one[k] for k in summary} == summary
            assert [r["round"] for r in one["curve"]] == [1, 2]
    plain, few = content["schemes"]
    assert few["pareto"]  # it sends least
    better = plain["test_accuracy"]["mean"] > few["test_accuracy"]["mean"]
    assert plain["pareto"] == better
    assert (ran / files.GRID_PLOT).read_bytes().startswith(PNG)


def test_the_table_marks_the_front(ran: Path) -> None:
    schemes = files.read_json(ran / files.GRID_RESULT)["schemes"]
    schemes[0]["pareto"], schemes[1]["pareto"] = False, True
    schemes[1]["test_accuracy"] |= {"mean": 0.5, "spread": 0.0125}
    schemes[1]["bytes_up"] |= {"mean": 3e6, "spread": 2e5}
    console = Console(width=200, record=True, quiet=True)
    console.quiet = False
    with console.capture() as captured:
        console.print(table(schemes, console))
    head, plain, few = captured.get().splitlines()
    assert "up" in head.split()
    assert plain.split()[0] == "plain"
    assert few.split()[:2] == ["*", "few"]
    assert "50.0 ± 1.2 %" in few
    assert "3.00 ± 0.20" in few
    assert "±" not in plain.split("%")[1]  # equal bytes have no spread
    assert len(table(schemes, Console(width=60)).columns) == 8


def test_one_seed_has_no_spread() -> None:
    assert spread([0.5]) == {"mean": 0.5, "spread": None, "values": [0.5]}
    assert spread([0.5, None]) == {"mean": None, "spread": None, "values": [0.5, None]}
    values: list[float | None] = [0.1, 0.4, 0.7]
    assert spread(values)["spread"] == pytest.approx(statistics.stdev([0.1, 0.4, 0.7]))


def test_a_finished_grid_is_not_run_again(
    ran: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("something was run")

    for name in ("run", "resume", "load_data", "rehearse"):
        monkeypatch.setattr(gridding, name, never)
    before = {p: t for p, t in times(ran).items() if p.parent != ran}
    content = run_grid(GRID, ran)
    assert {p: t for p, t in times(ran).items() if p.parent != ran} == before
    assert content == files.read_json(ran / files.GRID_RESULT)
    text = capsys.readouterr().out
    assert text.count("is finished: 2 rounds") == 4
    assert "on the Pareto front (*): " in text
    assert "± is the standard deviation over 2 seeds" in text


def test_a_half_finished_grid_goes_on(ran: Path, tmp_path: Path) -> None:
    """One run is finished, one is stopped after a round, two have not begun."""
    folder = tmp_path / "half"
    shutil.copytree(ran, folder)
    for name in (files.GRID_RESULT, files.GRID_PLOT):
        (folder / name).unlink()
    shutil.rmtree(folder / PLACES[2])
    shutil.rmtree(folder / PLACES[3])
    (folder / PLACES[3]).mkdir()
    stopped = folder / PLACES[1]
    (stopped / files.SUMMARY).unlink()
    shutil.rmtree(stopped / files.CHECKPOINTS / "00000002")
    done = times(folder / PLACES[0])
    resume_grid(folder, quiet=True)
    assert times(folder / PLACES[0]) == done
    assert digests(folder) == digests(ran)
    ours, theirs = (
        files.read_json(f / files.GRID_RESULT)["schemes"] for f in (folder, ran)
    )
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("test_accuracy", "bytes_up", "train_loss", "pareto"):
            assert mine[name] == other[name]


@pytest.mark.slow
def test_schemes_can_be_run_one_by_one(ran: Path, tmp_path: Path) -> None:
    """Results take in what is finished; in the end all is as if run at once."""
    folder = tmp_path / "one by one"
    first = run_grid(GRID, folder, only=("few",), quiet=True)
    assert [s["name"] for s in first["schemes"]] == ["few"]
    assert not (folder / "plain").exists()
    assert load_grid(folder / files.GRID) == GRID
    second = run_grid(GRID, folder, only=("plain",), quiet=True)
    assert [s["name"] for s in second["schemes"]] == ["plain", "few"]
    assert digests(folder) == digests(ran)
    with pytest.raises(InputError, match="no scheme is named 'fwe'; did you mean"):
        run_grid(GRID, folder, only=("fwe",), quiet=True)


def test_more_rounds_make_a_grid_longer(
    ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if so long from the start; the scheme with rounds of its own stays."""
    longer, at_once = tmp_path / "longer", tmp_path / "at once"
    shutil.copytree(ran, longer)
    path = longer / files.GRID
    mine = "# mine\n" + path.read_text()
    path.write_text(mine)
    resume_grid(longer, 2, quiet=True)
    assert path.read_text() == mine  # the same grid is left as it was written
    done = times(longer / "few")
    assert main(["resume", str(longer), "--rounds", "3", "--quiet"]) == 0
    assert times(longer / "few") == done
    three = GRID._replace(base=dataclasses.replace(BASE, rounds=3))
    assert load_grid(longer / files.GRID) == three
    run_grid(three, at_once, quiet=True)
    assert digests(longer) == digests(at_once)
    assert digests(longer)[0] != digests(ran)[0]
    with pytest.raises(InputError, match=r"only be raised: rounds \(wanted 2, found 3"):
        run_grid(GRID, longer, quiet=True)
    with pytest.raises(InputError, match=r"only be raised: rounds \(wanted 2, found 3"):
        resume_grid(longer, 2, quiet=True)
    own = Scheme("few", {**GRID.schemes[1].settings, "rounds": 3})
    all_three = three._replace(schemes=(GRID.schemes[0], own))
    capsys.readouterr()
    shown = run_grid(all_three, longer, only=("plain",))
    assert [scheme["name"] for scheme in shown["schemes"]] == ["plain"]
    assert "left out: few, seed 1 has 2 of 3 rounds" in capsys.readouterr().out
    run_grid(all_three, longer, quiet=True)
    assert load_grid(longer / files.GRID) == all_three
    lines = (longer / PLACES[2] / files.METRICS).read_text().splitlines()
    assert len(lines) == 3


class Watch:
    """Notes rounds as (scheme, round), and ends every run of ``few`` after its next."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def start(self, run: Run) -> None:
        self.scheme = run.folder.parent.name

    def round(self, record: dict[str, Any], state: Any) -> None:
        self.seen.append((self.scheme, record["round"]))
        if self.scheme == "few":
            raise StopRun("few are enough")


def test_callbacks_are_those_of_every_run(tmp_path: Path) -> None:
    """A run that one of them ends is finished, until more rounds are wanted."""
    folder = tmp_path / "grid"
    schemes = GRID.schemes[0], Scheme("few", {"uplink": "top_k(0.2)"})

    def watched(rounds: int) -> list[tuple[str, int]]:
        watch, base = Watch(), dataclasses.replace(BASE, rounds=rounds)
        compare(base, schemes, folder, callbacks=[watch], quiet=True)
        return watch.seen

    assert watched(2) == [("plain", 1), ("plain", 2), ("few", 1)]
    summary = files.read_json(folder / "few" / "seed-0" / files.SUMMARY)
    assert (summary["rounds"], summary["stopped_by"]) == (1, "Watch")
    result = files.read_json(folder / files.GRID_RESULT)
    assert [s["stopped"] for s in result["schemes"]] == [0, 1]
    before = times(folder / "few")
    assert watched(2) == []
    assert times(folder / "few") == before
    assert watched(3) == [("plain", 3), ("few", 2)]
    assert watched(3) == []
    watch = Watch()
    resume_grid(folder, 4, callbacks=[watch], quiet=True)
    assert watch.seen == [("plain", 4), ("few", 3)]


def test_another_grid_is_refused(ran: Path, tmp_path: Path) -> None:
    before = times(ran)
    other = GRID._replace(base=dataclasses.replace(BASE, cohort=5))
    with pytest.raises(InputError, match=r"another grid: .*cohort \(wanted 5, found 4"):
        run_grid(other, ran, quiet=True)
    with pytest.raises(InputError, match=r"seeds \(wanted \[0\], found \[0, 1\]\)"):
        run_grid(GRID._replace(seeds=(0,)), ran, quiet=True)
    assert times(ran) == before
    with pytest.raises(InputError, match="already holds a run or a comparison"):
        run_grid(GRID, ran / PLACES[0], quiet=True)
    with pytest.raises(InputError, match="already holds a grid; go on with: fedjax"):
        run(BASE, ran, quiet=True)
    with pytest.raises(InputError, match=r"another grid: seeds \(wanted \[0\]"):
        compare(BASE, output=ran, quiet=True)
    shutil.copytree(ran / PLACES[0], tmp_path / PLACES[1])  # of another seed
    with pytest.raises(InputError, match=r"other settings: seed \(wanted 1, found 0\)"):
        run_grid(GRID, tmp_path, quiet=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        run_grid(GRID, tmp_path / "file", quiet=True)
    with pytest.raises(InputError, match="cannot read"):
        resume_grid(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"uplink": "unifrm"}, "uplink: unknown stage 'unifrm'; did you mean 'unifor"),
        ({"uplink": "by_label(cast, nope=cast)"}, "uplink: no leaf is labelled 'nope'"),
        (
            {"uplink": "cast", "model": "cnn", "data": "synthetic"},
            "model: cnn: needs images",
        ),
        ({"uplink": "cast", "cohort": 9}, "cohort can be at most 8"),
        ({"uplink": "cast", "clients": 2000}, "2000 clients cannot share"),
        ({"uplink": "cast", "rounds": 0}, "rounds must be between 1 and"),
    ],
)
def test_a_mistake_in_the_last_scheme_stops_all(
    settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    grid = GRID._replace(schemes=(GRID.schemes[0], Scheme("bad", settings)))
    with pytest.raises(InputError) as caught:
        run_grid(grid, tmp_path / "new", quiet=True)
    line = str(caught.value).splitlines()[0]
    assert line.startswith("scheme 'bad': ")
    assert words in line
    assert not (tmp_path / "new").exists()


def test_report_takes_the_runs_of_a_grid(ran: Path, tmp_path: Path) -> None:
    content = report([ran], tmp_path / "out", quiet=True)
    names = ["plain, seed 0", "plain, seed 1", "few, seed 0", "few, seed 1"]
    assert [s["name"] for s in content["schemes"]] == names


def picture_of(path: Path, points: list[tuple[Any, ...]]) -> Any:
    """The axes for points of (name, MB up, MB down, accuracy, on the front)."""
    schemes = [
        {
            "name": name,
            "pareto": best,
            "bytes_up": {"mean": up * 1e6, "spread": None},
            "bytes_down": {"mean": down * 1e6, "spread": None},
            "megabytes": {"mean": up + down, "spread": None},
            "test_accuracy": {"mean": y, "spread": None if y is None else 0.01},
        }
        for name, up, down, y, best in points
    ]
    (axes,) = draw_grid(schemes, path).axes
    return axes


def front_of(axes: Any) -> Any:
    (front,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    return front.get_xydata().tolist()


def test_the_picture_joins_the_front(tmp_path: Path) -> None:
    """Steps from (1, 0.5) to (4, 0.9); the point at (2, 0.4) is not on them."""
    points = [
        ("a", 0.5, 0.5, 0.5, True),
        ("b", 0.5, 1.5, 0.4, False),
        ("c", 2.0, 2.0, 0.9, True),
        ("diverged", 1.0, 2.0, None, False),
    ]
    axes = picture_of(tmp_path / "g.png", points)
    assert "up and down" in axes.get_xlabel()
    assert front_of(axes) == [[1.0, 0.5], [4.0, 0.9]]
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.texts] == ["a  50.0 %", "b  40.0 %", "c  90.0 %"]
    fills = {
        str(bars.get_label()): bars.lines[0].get_markerfacecolor()
        for bars in axes.containers
    }
    assert fills["b"] == "white"
    assert fills["a"] == fills["c"] != "white"


@pytest.mark.parametrize("way", [0, 1])
def test_the_picture_leaves_out_a_way_that_is_the_same_for_all(
    tmp_path: Path, way: int
) -> None:
    points = [("a", 1.0, 7.0, 0.5, True), ("b", 3.0, 7.0, 0.9, True)]
    turned = [(n, *(mb[::-1] if way else mb), y, best) for n, *mb, y, best in points]
    axes = picture_of(tmp_path / "g.png", turned)
    expected = ("down (every scheme: 7.00 MB up)", "up (every scheme: 7.00 MB down)")
    assert f"MB sent {expected[1 - way]}" in axes.get_xlabel()
    assert front_of(axes) == [[1.0, 0.5], [3.0, 0.9]]
