"""``--import`` from the command line: names of one's own, kept by the run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

from fedjax_compress import registry
from fedjax_compress.__main__ import main
from fedjax_compress.experiment import ProgramWarning, load_grid, load_toml
from fedjax_compress.registry import imports
from fedjax_compress.report import files

SOURCE = '''
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress import stateless
from fedjax_compress.registry import register
from fedjax_compress.typing import Claims, Stage


@register("stage")
def sign_of_mine(times: float = 1.0) -> Stage:
    """The sign of every element times the mean magnitude.

    Sent as one bit an element.
    """

    def encode(array, keys):
        signs = wire.Field((array >= 0).astype(jnp.uint8), alphabet=2)
        scale = wire.raw(jnp.mean(jnp.abs(array)), kind="scales")
        return None, {"signs": signs, "scale": scale}

    def decode(carrier, side, shared):
        signs = side["signs"].symbols.astype(jnp.float32)
        return times * side["scale"].symbols * (2 * signs - 1)

    return stateless(encode, decode, Claims())
'''
TINY = ["--clients", "8", "--cohort", "4", "--model", "logistic", "--lanes", "4"]
TINY += ["--local", "sgd(lr=0.1, steps=2, batch=5)", "--downlink", "identity"]
TINY += ["--devices", "1", "--quiet", "--rounds", "2"]
MINE = ["--import", "mine.py"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``mine.py``; what is imported is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    for kind in registry.kinds():
        monkeypatch.setitem(registry._entries._tables, kind, registry.entries(kind))
    monkeypatch.setattr(imports, "_brought", {})
    monkeypatch.setattr(imports, "_latest", {})
    monkeypatch.setattr(imports, "_current", ())
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def forget() -> None:
    """As in a new process."""
    imports._brought.clear()
    del registry._entries._tables["stage"]["sign_of_mine"]


def test_list_shows_names_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "stage", *MINE]) == 0
    text = capsys.readouterr().out
    assert "  sign_of_mine(times: float = 1.0)\n      The sign of every" in text
    assert main(["list", "sign_of_mine", *MINE]) == 0
    assert "Sent as one bit an element." in capsys.readouterr().out


def test_a_run_keeps_its_imports(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that ``resume`` needs no option, in whatever folder it is called."""
    argv = ["run", *MINE, "--uplink", "sign_of_mine", "--output", "a", *TINY]
    assert main(argv) == 0
    assert load_toml("a/config.toml").imports == (str(folder / "mine.py"),)
    summary = files.read_json(Path("a/summary.json"))
    assert summary["versions"]["mine.py"] == imports.digests()["mine.py"]
    forget()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["resume", "../a", "--rounds", "3", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    shutil.move(folder / "mine.py", "mine.py")
    assert main(["resume", "../a", "--rounds", "4", "--quiet"]) == 2
    assert "cannot import" in capsys.readouterr().err
    argv = ["resume", "../a", "--rounds", "4", "--quiet", *MINE]
    assert main(argv) == 0
    assert capsys.readouterr() == ("", "")
    assert load_toml("../a/config.toml").imports == (str(Path("mine.py").absolute()),)


@pytest.mark.filterwarnings("default")
def test_a_changed_file_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comment changes no program: one line; another factor does: one more."""
    argv = ["run", *MINE, "--uplink", "sign_of_mine", "--output", "a", *TINY]
    assert main(argv) == 0
    (folder / "mine.py").write_text("# a remark\n" + SOURCE)
    assert main(["resume", "a", "--rounds", "3", "--quiet"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning: mine.py is not the file that a was run with so far: its" in line
    (folder / "mine.py").write_text(SOURCE.replace("times *", "2 * times *"))
    assert main(["resume", "a", "--rounds", "4", "--quiet"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "the program of a round is not the one that a was run with" in lines[1]
    assert "mine.py was " in lines[1]
    assert issubclass(ProgramWarning, UserWarning)


def test_a_comparison_and_a_report_take_them(folder: Path) -> None:
    schemes = ["--scheme", "mine=sign_of_mine", "--scheme", "none=identity"]
    assert main(["compare", *MINE, *schemes, "--output", "c", *TINY]) == 0
    grid = load_grid(Path("c", files.GRID))
    assert grid is not None
    assert grid.base.imports == (str(folder / "mine.py"),)
    forget()
    (folder / "moved").mkdir()
    shutil.move("mine.py", "moved/mine.py")
    more = ["--import", "moved/mine.py", "--rounds", "3", "--quiet"]
    assert main(["resume", "c", *more]) == 0
    assert main(["report", "c", "--output", "r", "--quiet", *more[:2]]) == 0
    found = files.read_json(Path("r", files.COMPARISON))["schemes"]
    assert [s["rounds"] for s in found] == [3, 3]


def test_a_file_of_settings_can_name_them(folder: Path) -> None:
    (folder / "c.toml").write_text("imports = ['mine.py']\nuplink = 'sign_of_mine'\n")
    (folder / "more.py").write_text(SOURCE.replace("sign_of_mine", "second"))
    argv = ["run", "c.toml", "--import", "more.py", "--downlink", "second"]
    assert main([*argv, "--output", "a", *TINY]) == 0
    names = [Path(path).name for path in load_toml("a/config.toml").imports]
    assert names == ["mine.py", "more.py"]


def test_sizes_take_them(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["size", *MINE, "--uplink", "sign_of_mine", "--model", "logistic"]
    assert main([*argv, "--shape", "4", "--classes", "2"]) == 0
    assert "up: sign_of_mine" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_of_a_measurement_take_them(folder: Path) -> None:
    argv = [sys.executable, "-m", "fedjax_compress", "bench", *MINE, "--rounds", "1"]
    argv += ["--workload", "W2", "--clients", "2", "--uplink", "sign_of_mine"]
    argv += ["--json", "b.json", "--devices", "1"]
    subprocess.run(argv, cwd=folder, env=environment(), check=True)
    found = files.read_json(folder / "b.json")
    assert found["results"][0]["uplink"] == "sign_of_mine"
    assert found["command"][2:4] == ["--import", str(folder / "mine.py")]


@pytest.mark.parametrize(
    ("text", "words"),
    [("1 / 0\n", "mine.py, line 1: ZeroDivisionError"), (None, "cannot import")],
)
@pytest.mark.parametrize(
    "command", ["run", "compare", "list", "size", "bench", "partition"]
)
def test_slips_are_one_line(
    folder: Path,
    command: str,
    text: str | None,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "mine.py").unlink()
    if text is not None:
        (folder / "mine.py").write_text(text)
    before = sorted(folder.iterdir())
    assert main([command, *MINE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(folder.iterdir()) == before
