"""What the README says is so: its code runs, its tables and links are right."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from processes import environment

from fedjax_compress import (
    clock,
    compress,
    data,
    experiment,
    models,
    registry,
    tree,
    wire,
)
from fedjax_compress import report as reports
from fedjax_compress.__main__ import main
from fedjax_compress.bench.planning import Request, plan
from fedjax_compress.cli import benching, partitioning, sizing
from fedjax_compress.clock import fedscale
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, build, grid
from fedjax_compress.registry import imports
from fedjax_compress.runtime import distributed
from fedjax_compress.typing import Keys

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files go to a temporary folder; what a test registers is forgotten again."""
    for kind in registry.kinds():
        monkeypatch.setitem(registry._entries._tables, kind, registry.entries(kind))
    monkeypatch.chdir(tmp_path)


def execute(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a block as a module of its own that is not the main one."""
    module = types.ModuleType("readme_block")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "README.md", "exec"), module.__dict__)


def promised(block: str) -> list[str | None]:
    """For each ``print`` what the comment after it says it shows; None if nothing."""
    prints = re.findall(r"^ *print\(.*\)(?:  # (.*))?$", block, re.M)
    return [found or None for found in prints]


def test_python_blocks_run(
    python_block: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    execute(python_block, monkeypatch)
    wanted = promised(python_block)
    if any(wanted):
        shown = capsys.readouterr().out.splitlines()
        pairs = zip(wanted, shown, strict=True)
        assert [s for w, s in pairs if w] == [w for w in wanted if w]


def test_python_blocks_are_short(python_block: str) -> None:
    lines = python_block.splitlines()
    assert len(lines) < 30
    assert max(len(line) for line in lines) <= 88


def test_a_false_promise_is_seen() -> None:
    assert promised("print(f(1))  # 3\nx = 1\n    print(x)\n") == ["3", None]


def my_file(readme: str) -> str:
    """The block that the README calls ``mine.py``."""
    return re.findall(r"`mine\.py`.*?^```python\n(.*?)^```$", readme, re.M | re.S)[0]


def phones(readme: str) -> str:
    """The block that the README calls ``phones.csv``."""
    return re.findall(r"`phones\.csv`.*?^```csv\n(.*?)^```$", readme, re.M | re.S)[0]


@pytest.fixture(scope="module")
def my_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run that imports ``mine.py``, with its stage by name, and a clock.

    By it all report in time.
    """
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(my_file((ROOT / "README.md").read_text()))
    command = [sys.executable, "-m", "fedjax_compress", "run", "--import", "mine.py"]
    command += ["--output", "run", "--quiet"]
    command += ["--model", "logistic", "--rounds", "2", "--cohort", "5"]
    command += ["--uplink", "error_feedback(my_sign)", "--downlink", "identity"]
    command += ["--evaluate-clients"]
    command += ["--clock", "network(mobile_2020) | deadline(3600) | energy"]
    subprocess.run(command, cwd=folder, env=environment(), check=True)
    return folder / "run"


def test_a_stage_of_ones_own_has_a_description(
    readme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(my_file(readme), monkeypatch)
    shown = "\n  my_sign\n      The sign of every element times the mean magnitude.\n"
    assert shown in registry.describe("stage")


def test_a_file_of_ones_own_is_imported(my_run: Path) -> None:
    summary = json.loads((my_run / "summary.json").read_text())
    # One bit for each of 650 parameters and a float32 for each of the two arrays.
    assert summary["bytes_up"] == 2 * 5 * (16 + -(-(650 + 2 * 32) // 8))


def test_shell_commands_are_understood(
    shell_line: str,
    readme: str,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options, specifications and targets are right; nothing is run."""
    execute(my_file(readme), monkeypatch)
    (tmp_path / "phones.csv").write_text(phones(readme))
    shell_line = shell_line.replace("phones.csv", str(tmp_path / "phones.csv"))
    called: list[str] = []

    def check(config: Config, *rest: Any, **more: Any) -> None:
        build.check_specs(config)
        called.append("checked")

    def note(*arguments: Any, **more: Any) -> None:
        called.append("called")

    def planned(asked: dict[str, Any], outputs: Any) -> None:
        plan(Request(**asked))
        called.append("planned")

    def check_grid(wanted: grid.Grid, *rest: Any, **more: Any) -> None:
        for job in grid.jobs(wanted):
            check(job.config)

    def measured(question: sizing.Question, quiet: bool) -> None:
        check(question.config)

    def shown(config: Config, by: str, outputs: partitioning.Outputs) -> None:
        check(config)

    monkeypatch.chdir(repository)
    monkeypatch.setattr(imports, "_bring", note)  # the README's own has been executed
    monkeypatch.setattr(distributed, "start", distributed.check)
    monkeypatch.setattr(sizing, "measure_sizes", measured)
    monkeypatch.setattr(partitioning, "show_partition", shown)
    monkeypatch.setattr(experiment, "run_grid", check_grid)
    monkeypatch.setattr(benching, "bench", planned)
    monkeypatch.setattr(experiment, "run", check)
    monkeypatch.setattr(experiment, "resume", note)
    monkeypatch.setattr(reports, "report", note)
    monkeypatch.setattr(registry, "describe", note)
    monkeypatch.setattr(fedscale, "convert_fedscale", note)
    words = shlex.split(shell_line, comments=True)
    if words[0] == "srun":
        words = words[words.index("fedjax-compress") :]
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (repository / "Makefile").read_text(), re.M)
        assert words[1] in targets
    elif words[:2] == ["pip", "install"]:
        assert words[2:] == ["."]
    elif words[:3] == ["python", "-m", fedscale.__name__]:
        assert fedscale.main(words[3:]) == 0
        assert called
    else:
        starts = (["fedjax-compress"], ["python", "-m", "fedjax_compress"])
        start = next(s for s in starts if words[: len(s)] == s)
        if words[-1] == "--help":
            with pytest.raises(SystemExit, match="0"):
                main(words[len(start) :])
        else:
            assert main(words[len(start) :]) == 0
            assert called


def test_the_program_has_the_name_that_is_typed(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"fedjax-compress": "fedjax_compress.__main__:main"}


def test_links_lead_somewhere(readme: str, repository: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert "notebooks/compare.png" in links
    headings = re.findall(r"^#+ (.*)$", readme, re.M)
    inside = {"#" + title.lower().replace(" ", "-") for title in headings}
    local = [link for link in links if not link.startswith("https://")]
    local = [link for link in local if link not in inside]
    assert [link for link in local if not (repository / link).is_file()] == []


def test_measured_clients_are_read_as_the_readme_has_them(
    readme: str, tmp_path: Path
) -> None:
    path = tmp_path / "phones.csv"
    path.write_text(phones(readme))
    found = clock.trace(str(path))
    assert found["network"](0, 2).tolist() == [
        [36e6, 11.2e6, 0.04],
        [7.5e6, 1.1e6, 0.095],
    ]
    assert found["devices"](0, 2).tolist() == [10e9, 2.5e9]
    there = found["activity"].active(np.arange(2), 40_000.0)
    assert there.tolist() == [False, True]


def test_what_is_in_is_registered(table) -> None:
    kinds = registry.kinds()
    seen = 0
    for part, names, _ in table("part"):
        option = part.split("`")[1].removeprefix("--") if part else ""
        kind = option if option in kinds else names.split()[0].removesuffix("s")
        for name in re.findall(r"`(\w+)`", names):
            assert name in registry.entries(kind)
            seen += 1
    assert seen > 30


def test_what_a_message_costs(table) -> None:
    """Of zeros, where the length is fixed; of normal elements, where it depends."""
    model = models.mlp(data.digits().task, hidden=(128, 64))
    assert Config().model == "mlp(hidden=(128, 64))"
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda s: rng.normal(size=s.shape).astype("float32"), shapes)
    keys = Keys(jax.random.key(1), jax.random.key(2))
    for text, _, size in table("uplink"):
        compressor = compress.parse(text.strip("`"))

        def message(values, compressor=compressor):
            return compressor.encode(values, compressor.init(values), keys)[0]

        if size.startswith("about "):
            found = len(wire.pack(jax.jit(message)(drawn)))
            about = int(size.removeprefix("about "))
            assert found == pytest.approx(about, rel=0.03)
        else:
            payload = tree.zeros_like(jax.eval_shape(message, shapes))
            assert f"{len(wire.pack(payload)):,}" == size


def test_fields_of_the_files(my_run: Path, table, readme: str) -> None:
    records = (my_run / "metrics.jsonl").read_text().splitlines()
    fields = re.findall(r"`(\w+)`", " ".join(row[0] for row in table("field")))
    # In the record or the summary of a run that has, or was ended, or of lotteryfl; of
    # a round that failed; of clients that nobody waits for; where knowledge travels.
    never = {"diverged", "stopped_by", "stop_reason", "failed", "staleness", "stale"}
    never |= {"distillation_loss", "dissent", "train_digest_loss"}
    never |= {"personal_accuracy_mean", "personal_accuracy_p10"}
    assert sorted(set(fields) - never) == sorted(json.loads(records[-1]))
    summary = json.loads((my_run / "summary.json").read_text())
    text = readme.split("`summary.json` is written")[1].split("Numbers that are")[0]
    assert set(re.findall(r"`(\w+)`", text)) - never == set(summary)
    for path in my_run.iterdir():
        assert f"`{path.name}{'/' if path.is_dir() else ''}`" in readme


def test_status_of_bad_input_and_of_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "stage"]) == 0
    assert main(["run", "--uplink", "unifrom"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3  # the line, text and caret


def test_the_readmes_model_rule_holds() -> None:
    """A module with running statistics is refused, as the README says."""
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.BatchNorm(use_running_average=False)(x.reshape(len(x), -1))
            return linen.Dense(10)(x)

    with pytest.raises(InputError, match="GroupNorm or LayerNorm"):
        models.from_linen(Net(), data.digits().task)
