"""A grid from the command line: killed, stopped, gone on with, and slips of the pen."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import environment

from fedjax_compress.__main__ import main
from fedjax_compress.experiment import load_toml, run
from fedjax_compress.report import files, records

TEXT = """
clients = 8
cohort = 4
rounds = 150
model = "logistic"
local = "sgd(lr=0.1, steps=2, batch=5)"
downlink = "identity"
lanes = 2
devices = 2
evaluate_every = 50
checkpoint_every = 2

[[schemes]]
name = "plain"
uplink = "identity"
rounds = 2

[[schemes]]
name = "long"
uplink = "error_feedback(top_k(steps((0.2, 0.1), after=40)))"
"""


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a grid, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.toml").write_text(TEXT)
    return tmp_path / "g.toml"


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fedjax_compress", *arguments],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_rounds(folder: Path, rounds: int, process: subprocess.Popen[str]) -> None:
    path = folder / files.METRICS
    begin = time.monotonic()
    while not path.exists() or len(path.read_bytes().splitlines()) < rounds:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begin < 300
        time.sleep(0.005)


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in record.items() if k not in records.CLOCK}
        for record in records.read(folder / files.METRICS)
    ]


@pytest.mark.slow
def test_a_killed_and_a_stopped_grid_go_on(grid: Path) -> None:
    """Killed in the second run's first phase, stopped by SIGTERM in its second."""
    place = Path("d/long/seed-0")
    with started("compare", "g.toml", "--output", "d") as one:
        wait_for_rounds(place, 10, one)
        one.kill()
    first = Path("d/plain/seed-0") / files.SUMMARY
    done = first.stat().st_mtime_ns
    assert not (place / files.SUMMARY).exists()
    with started("compare", "g.toml", "--output", "d") as two:
        wait_for_rounds(place, 60, two)
        two.send_signal(signal.SIGTERM)
        _, complaint = two.communicate()
    assert two.returncode == 143
    assert "stopped by SIGTERM after round" in complaint
    assert "go on with: fedjax-compress resume d\n" in complaint
    assert not Path("d", files.GRID_RESULT).exists()
    assert main(["resume", "d", "--quiet"]) == 0
    assert first.stat().st_mtime_ns == done
    run(load_toml(place / files.CONFIG), "whole", quiet=True)
    assert numbers(place) == numbers(Path("whole"))
    found, whole = (files.read_json(f / files.SUMMARY) for f in (place, Path("whole")))
    assert found["parameters_sha256"] == whole["parameters_sha256"]
    schemes = files.read_json(Path("d", files.GRID_RESULT))["schemes"]
    assert [len(s["runs"]) for s in schemes] == [1, 1]
    assert schemes[1]["bytes_up"]["mean"] == whole["bytes_up"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--scheme", "a=cast"], "g.toml names the schemes; leave --scheme out"),
        (["--cohort", "9"], "cohort can be at most 8"),
        (["--output", ""], "output is empty; give the name of a folder"),
        (["--rounds", "0"], "rounds must be between 1 and"),
    ],
)
def test_slips_of_the_pen(
    grid: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "g.toml", *more]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert words in line
    assert list(grid.parent.iterdir()) == [grid]


def test_seeds_and_settings_of_a_grid_stay(
    grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid.write_text("seeds = [1, 2]\n" + TEXT)
    assert main(["compare", "g.toml", "--seed", "3"]) == 2
    assert "g.toml names the seeds; leave --seed out" in capsys.readouterr().err
    Path("d").mkdir()
    grid.rename(Path("d", files.GRID))
    assert main(["resume", "d", "--evaluate-every", "3"]) == 2
    told = capsys.readouterr().err
    assert "with more rounds; leave --evaluate-every out" in told
    assert main(["resume", "d", "--distributed"]) == 2
    assert "a grid runs in one process" in capsys.readouterr().err
    assert main(["run", str(Path("d", files.GRID))]) == 2
    assert "is a grid; run it with: fedjax-compress compare" in capsys.readouterr().err
