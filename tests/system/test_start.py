"""What a start loads and sets: only what it needs, and nothing behind one's back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

from fedjax_compress.__main__ import main
from fedjax_compress.report import files

HEAVY = ["optax", "orbax", "sklearn", "scipy.stats", "matplotlib"]
HEAVY += ["tensorflow", "tensorflow_datasets", "pandas", "tyro", "PIL"]
TINY = ["--rounds", "1", "--clients", "6", "--cohort", "3", "--lanes", "3", "--quiet"]
TINY += ["--model", "logistic", "--uplink", "identity", "--downlink", "identity"]
TINY += ["--local", "sgd(lr=0.1, steps=1, batch=5)"]


def python(code: str, **variables: str) -> str:
    """What a fresh interpreter with one CPU device prints."""
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**variables),
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    return found.stdout


def loaded(code: str, names: list[str]) -> list[str]:
    """Which of these modules ``code`` has loaded in a fresh interpreter."""
    test = f"print(*(n for n in {names} if n in sys.modules))"
    return python(f"import sys\n{code}\n{test}").split()


@pytest.mark.parametrize(
    "code", ["import fedjax_compress", "import fedjax_compress.experiment"]
)
def test_an_import_loads_nothing_heavy(code: str) -> None:
    assert loaded(code, [*HEAVY, "flax", "jax", "numpy", "rich"]) == []
    assert loaded(f"{code}, jax", [*HEAVY, "jax"]) == ["jax"]  # it can tell


def test_the_runner_loads_libraries_when_they_are_used() -> None:
    assert loaded("from fedjax_compress.experiment import run", HEAVY) == []


def test_a_run_loads_no_more_than_it_uses(tmp_path: Path) -> None:
    output = str(tmp_path / "a")
    code = "from fedjax_compress.__main__ import main\n"
    code += f"assert main({['run', *TINY, '--output', output]}) == 0"
    names = ["sklearn", "pandas", "tensorflow", "flax.nnx", "matplotlib.pyplot"]
    assert loaded(code, [*names, "flax", "orbax"]) == ["flax", "orbax"]


def test_an_import_changes_no_setting_of_jax() -> None:
    code = (
        "import os, jax\n"
        "before, variables = dict(jax.config.values), dict(os.environ)\n"
        "import fedjax_compress\n"
        "for name in fedjax_compress.__all__: getattr(fedjax_compress, name)\n"
        "from fedjax_compress.experiment import run\n"
        "assert dict(jax.config.values) == before\n"
        "assert dict(os.environ) == variables\n"
    )
    assert python(code, FEDJAX_COMPRESS_CACHE="") == ""


def test_the_second_start_compiles_nothing(tmp_path: Path) -> None:
    """Run, then run again: all programs are found, and the result is the same."""
    code = (
        "import jax, sys\n"
        "from fedjax_compress.__main__ import main\n"
        "seen = []\n"
        "jax.monitoring.register_event_listener(lambda n, **m: seen.append(n))\n"
        f"assert main(['run', *{TINY}, '--output', sys.argv[1]]) == 0\n"
        "name = '/jax/compilation_cache/cache_'\n"
        "print(seen.count(name + 'hits'), seen.count(name + 'misses'))\n"
    )
    counts, digests = [], []
    for name in ("one", "two"):
        output = str(tmp_path / name)
        place = {"FEDJAX_COMPRESS_CACHE": str(tmp_path / "cache")}
        text = python(code.replace("sys.argv[1]", repr(output)), **place)
        counts.append([int(x) for x in text.split()])
        summary = json.loads((tmp_path / name / files.SUMMARY).read_text())
        digests.append(summary["parameters_sha256"])
    (_, compiled), again = counts
    assert compiled > 3
    assert again[0] >= compiled
    assert again[1] == 0
    assert digests[0] == digests[1]


@pytest.mark.usefixtures("nothing_shared")
@pytest.mark.filterwarnings("always")
def test_no_room_for_programs_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDJAX_COMPRESS_CACHE", str(tmp_path / "file" / "c"))
    assert main(["run", *TINY, "--output", str(tmp_path / "a")]) == 0
    found = capsys.readouterr()
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert line.startswith("fedjax-compress: warning: compiled programs are not kept: ")
    assert "Not a directory" in line
