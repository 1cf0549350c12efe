"""``fedjax-compress bench``: table, file, picture, and slips of the pen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fedjax_compress.__main__ import main
from fedjax_compress.bench import OVERHEAD
from fedjax_compress.cli import bench_plots, benching

PNG = b"\x89PNG\r\n\x1a\n"
TINY = ["bench", "--workload", "W2", "--clients", "3", "--rounds", "2"]


def test_compare_to_table_and_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "b.json"
    arguments = [*TINY, "--compare", "--devices", "2", "--json", str(path)]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    content = json.loads(path.read_text())
    assert content["command"][:2] == ["fedjax-compress", "bench"]
    assert sorted(content["command"][2:]) == sorted(arguments[1:])
    assert {"cpu_count", "python", "jax", "jaxlib", "numpy", "flax", "optax", "date",
            "platform", "device_kind"} <= set(content["machine"])  # fmt: skip
    engine, loop, bound = content["results"]
    assert [r["contender"] for r in content["results"]] == ["engine", "loop", "bound"]
    assert (engine["devices"], engine["rounds"], engine["population"]) == (2, 2, 3400)
    assert engine["lanes"] >= 1
    assert engine["bytes_up_per_client"] == 16 + 4 * 48_670
    for found in content["results"]:
        assert round(found["loss_initial"], 4) == 4.4242
        assert found["compile_seconds"] > 0
        assert found["peak_rss_mb"] > 60  # the pool alone has 58 MB
        assert len(found["round_seconds"]) == 2
        row = rf"W2 +3 +{found['contender']} .*{found['samples_per_second']:,.0f} "
        assert re.search(row, shown.out)
    assert engine["loss_first"] == pytest.approx(loop["loss_first"], abs=5e-5)
    assert engine["loss_last"] == pytest.approx(loop["loss_last"], abs=5e-5)
    share = engine["samples_per_second"] / bound["samples_per_second"]
    assert engine["share_of_bound"] == pytest.approx(share)
    ratio = engine["samples_per_second"] / loop["samples_per_second"]
    assert engine["ratio_to_loop"] == pytest.approx(ratio)
    assert "fastest form tried: loop of W2: step; bound of W2: " in shown.out


@pytest.mark.slow
def test_a_sweep_of_links_to_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.png"
    sweep = "uplink=identity;hadamard | uniform(bits=4)"
    assert main([*TINY, "--sweep", sweep, "--plot", str(path), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--workload", "W22"], "there is no workload 'W22'; did you mean 'W2'?"),
        (["--clients", "0"], "clients must be at least 1, not 0"),
        (["--clients", "many"], "--clients needs a whole number, not 'many'"),
        (["--round", "3"], "bench has no option --round; did you mean '--rounds'?"),
        (["--workload", "W2", "--sweep", "lanes=1,x"], "needs whole numbers"),
        (["--json", "none/b.json"], "json: there is no folder none; make it first"),
        (["--json", "."], "json needs the name of a file, not '.'"),
        (["--plot", "p.png"], "add --sweep or --overhead"),
        (["--workload", "W2", "--overhead", "--plot", "p.pdf"], "plot is a PNG"),
        (["--overhead", "--plot", "p.png"], "plot shows one workload"),
        (["W2"], "does not take the argument 'W2'"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(
    more: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*arguments: Any) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("fedjax_compress.bench.process.subprocess.Popen", never)
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *more]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("fedjax-compress: error: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    names = "workload clients rounds compare json lanes devices uplink downlink"
    for name in [*names.split(), "population", "sweep", "plot", "overhead"]:
        assert f"--{name}" in text


def made(contender: str, **values: Any) -> dict[str, Any]:
    """A result with made-up figures."""
    return {
        "workload": "W2",
        "clients": 10,
        "population": 3400,
        "contender": contender,
        "uplink": "identity",
        "downlink": "identity",
        "algorithm": "fedavg",
        "qat": "none",
        "clock": "none",
        "devices": 1,
        "lanes": 8 if contender == "engine" else None,
        "seconds_per_round": 0.5,
        "samples_per_second": 2000.0,
        "clients_per_second": 20.0,
        "gflops": 1.5,
        "share_of_bound": None,
        "ratio_to_loop": None,
        "time_to_first": 1.0,
        "coding_share": None,
        "compile_seconds": 1.0,
        "peak_rss_mb": 500.0,
        "device_peak_mb": None,
        "loss_first": 4.0,
        "bytes_up_per_client": 1e5,
        **values,
    }


def columns(results: list[dict[str, Any]]) -> list[str]:
    return [str(column.header) for column in benching.table(results).columns]


def test_the_table_shows_what_is_unusual() -> None:
    plain = columns([made("engine")])
    assert not {"up", "down", "devices", "population", "of bound", "time"} & set(plain)
    assert "device MB" not in plain
    swept = [made("engine", lanes=1), made("engine", lanes=2, time_to_first=0.7)]
    assert set(columns(swept)) - set(plain) == {"time"}
    coded = [made("engine"), made("engine", uplink="cast", coding_share=0.25)]
    assert set(columns(coded)) - set(plain) == {"up", "coding"}
    rich = made("engine", population=9, share_of_bound=0.9, device_peak_mb=3.0)
    found = set(columns([rich])) - set(plain)
    assert found == {"population", "of bound", "device MB"}


@pytest.mark.parametrize("name", ["clients", "population", "lanes", "devices"])
def test_pictures_of_sweeps(name: str, tmp_path: Path) -> None:
    """Names at the ends neither overlap nor leave the picture."""
    results = []
    for value in (1, 10, 100):
        results.append(made("engine", **{name: value}, samples_per_second=100 * value))
    kinds = (1, 10, 100) if name == "clients" else (1,)
    for contender in ("loop", "bound"):
        results += [
            made(contender, **{name: v}, samples_per_second=9900.0) for v in kinds
        ]
    figure = bench_plots.draw_sweep(results, name, tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(PNG)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for axes in figure.axes:
        boxes = [t.get_window_extent(renderer) for t in axes.texts]
        assert len(boxes) == len(axes.lines) == 3
        for i, box in enumerate(boxes):
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
            assert not any(box.overlaps(other) for other in boxes[:i])


def test_picture_of_the_overhead(tmp_path: Path) -> None:
    results = [
        made("engine", uplink=up, downlink=down, time_to_first=1 + 0.1 * i)
        for i, (up, down) in enumerate(OVERHEAD)
    ]
    figure = bench_plots.draw_links([*results, made("loop")], tmp_path / "o.png")
    (axes,) = figure.axes
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels[-1] == "identity"
    assert labels[0] == "hadamard | uniform(bits=4)\nboth ways"
    longest = 1 + 0.1 * (len(OVERHEAD) - 1)
    assert axes.texts[0].get_text() == f"{longest:.2f}   100.0 kB up a client"
