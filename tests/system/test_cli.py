"""The command line as a user meets it: status, streams, and one clear line."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import environment

from fedjax_compress.__main__ import main
from fedjax_compress.experiment import Config, load_toml
from fedjax_compress.experiment.config import FIELDS
from fedjax_compress.report import files, records

PREFIX = "fedjax-compress: error: "
TINY = ["--clients", "8", "--cohort", "4", "--model", "logistic", "--lanes", "4"]
TINY += ["--downlink", "identity", "--evaluate-every", "2", "--checkpoint-every", "2"]
TINY += ["--local", "sgd(lr=0.1, steps=2, batch=5)"]
TINY += ["--uplink", "error_feedback(top_k(0.1))"]


def error_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the error message of a command that must fail with status 2."""
    assert main(argv) == 2
    found = capsys.readouterr()
    assert found.out == ""
    lines = found.err.splitlines()
    assert lines[0].startswith(PREFIX)
    return [lines[0].removeprefix(PREFIX), *lines[1:]]


def subprocess_of(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    """The program in a process of its own, with one CPU device."""
    command = [sys.executable, "-m", "fedjax_compress", *arguments]
    return subprocess.Popen(
        command,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["rn"], "there is no command 'rn'; did you mean 'run'?"),
        (["run", "--rouds", "3"], "no option --rouds; did you mean '--rounds'?"),
        (["run", "--rouds=3"], "no option --rouds; did you mean '--rounds'?"),
        (["run", "--rounds", "x"], "--rounds needs a whole number, not 'x'"),
        (["run", "--rounds=2.5"], "--rounds needs a whole number, not '2.5'"),
        (["run", "--rounds"], "--rounds needs a value"),
        (["run", "--quiet=1"], "--quiet takes no value"),
        (["run", "--no-quiet"], "no option --no-quiet; did you mean '--quiet'?"),
        (["run", "--output="], "output is empty; give the name of a folder"),
        (["run", "--devices", "1000000"], "devices must be between 0 and 1024"),
        (["run", "--rounds", "--quiet"], "--rounds needs a value"),
        (["run", "--rounds", "0"], "rounds must be between 1 and"),
        (["run", "a.toml", "b.toml"], "does not take the argument 'b.toml'"),
        (["run", "none.toml"], "cannot read the configuration none.toml: No such"),
        (["run", "--clients", "10"], "cohort can be at most 10"),
        (["run", "--cohort", "101"], "only 100 clients; cohort can be at most 100"),
        (["run", "--clients", "2000"], "2000 clients cannot share the 1437"),
        (["run", "--partition", "natural"], "digits has no clients of its own"),
        (["run", "--devices", "99"], "devices must be 1 to"),
        (["resume"], "resume needs a folder"),
        (["resume", "none"], "none holds no run"),
        (["report"], "report needs a folder"),
        (["report", "none"], "there is no folder none"),
        (["compare", "--scheme", "a="], "scheme 'a=' has no uplink"),
        (["compare", "--uplink", "identity"], "compare has no option --uplink"),
        (["list", "modl"], "unknown kind or name 'modl'; did you mean 'model'?"),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = error_of(argv, capsys)
    assert len(lines) == 1
    assert words in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "spec", "words", "column"),
    [
        ("model", "mpl", "model: unknown model 'mpl'; did you mean 'mlp'?", 0),
        ("uplink", "hadamard | unifrm", "did you mean 'uniform'?", 11),
        ("uplink", "hadamard | ", "uplink: expected a name", 10),
        ("uplink", "uniform(bits=4", "uplink: expected", 14),
        ("uplink", "uniform(bits=x)", "bits must be int, not 'x'", 13),
        ("uplink", "uniform(bit=4)", "did you mean 'bits'?", 0),
        ("local", "sgd(lr=-1)", "local: sgd: lr must be", 0),
        ("model", "lora(mlp(hidden=(8,)))", "in quotes: 'mlp(hidden=(8,))'", 5),
        ("data", "npz(path=/a.npz)", "put paths and the like in quotes", 9),
    ],
)
def test_bad_specs_have_a_caret(
    option: str,
    spec: str,
    words: str,
    column: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    reason, text, caret = error_of(["run", f"--{option}", spec], capsys)
    assert words in reason
    assert text == f"  {spec}"
    assert caret == f"  {' ' * column}^"
    assert list(tmp_path.iterdir()) == []


def test_a_model_within_a_model_says_so_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    reason, text, _ = error_of(["run", "--model", "lora('mlp(deep=3)')"], capsys)
    assert reason == "model: mlp has no option 'deep'; known: hidden"
    assert text == "  mlp(deep=3)"


def bad_arrays(name: str) -> dict[str, np.ndarray]:
    """Twelve rows of three numbers and two classes, with one fault."""
    features = np.arange(36, dtype=np.float32).reshape(12, 3) / 36
    labels = np.arange(12, dtype=np.int32) % 2
    owners = np.arange(12, dtype=np.int32) % 3
    if name == "nan":
        features[5, 1] = np.nan
    if name == "label":
        labels[7] = -4
    if name == "length":
        labels = labels[:-1]
    if name == "column":
        return {"images": features, "lables": labels, "writer": owners}
    return {"images": features, "labels": labels, "writer": owners}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", "not finite"),
        ("label", "label"),
        ("length", "labels"),
        ("column", "labels"),
        ("missing", "missing.npz"),
    ],
)
def test_bad_data_is_one_line(
    name: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"{name}.npz"
    if name != "missing":
        np.savez(path, **bad_arrays(name))
    output = tmp_path / "out"
    spec = f"npz(path='{path}', client=writer, classes=2)"
    argv = ["run", "--data", spec, "--partition", "natural", "--cohort", "2"]
    reason, *rest = error_of([*argv, "--output", str(output)], capsys)
    assert words in reason
    assert reason.startswith("data: ")
    assert rest == [] or rest[-1].strip() == "^"
    assert not output.exists()


def test_config_file_gives_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("rounds = 77\nuplink = 'qsgd(bits=5)'\n")
    with pytest.raises(SystemExit) as caught:
        main(["run", str(path), "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "(default: 77)" in text
    assert "qsgd(bits=5)" in text
    path.write_text("rouds = 77\n")
    (line,) = error_of(["run", str(path)], capsys)
    assert "unknown setting 'rouds'; did you mean 'rounds'?" in line


@pytest.mark.parametrize(
    "command", ["run", "resume", "compare", "report", "partition", "list"]
)
def test_help_names_everything(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name, field in FIELDS.items() if command == "run" else ():
        assert f"--{name.replace('_', '-').removesuffix('s')}" in text
        shown = f"{field.default}".split(" ")[0].split("(")[0]
        assert shown in text
    if command != "list":
        assert "--quiet" in text


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_top_level_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for command in ("run", "resume", "compare", "report", "partition", "list"):
        assert command in text


def test_run_resume_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text("rounds = 50\nseed = 4\n")
    argv = ["run", "c.toml", "--rounds", "2", "--output", "a", "--quiet", *TINY]
    assert main(argv) == 0
    assert capsys.readouterr() == ("", "")
    config = load_toml("a/config.toml")
    assert (config.rounds, config.seed, config.cohort) == (2, 4, 4)
    summary = files.read_json(Path("a/summary.json"))
    assert {
        "test_accuracy",
        "test_loss",
        "rounds",
        "bytes_up",
        "bytes_down",
        "nominal_bytes_up",
        "nominal_bytes_down",
        "clients_per_second",
        "parameters_sha256",
    } <= set(summary)

    (line,) = error_of(["run", "--output", "a"], capsys)
    assert "a already holds a run" in line
    (line,) = error_of(["resume", "a", "--cohort", "5"], capsys)
    assert "cohort (wanted 5, found 4)" in line

    assert main(["resume", "a", "--rounds", "2"]) == 0
    assert "is finished: 2 rounds" in capsys.readouterr().out
    assert main(["report", "a", "--output", "r"]) == 0
    assert "error_feedback(top_k(0.1))" in capsys.readouterr().out
    assert {p.name for p in Path("r").iterdir()} == {"compare.json", "compare.png"}


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "stage"]) == 0
    text = capsys.readouterr().out
    assert "hadamard" in text
    assert "bits: int" in text


def test_start_is_light() -> None:
    """Help and slips of the pen are answered without jax, plots, or TensorFlow."""
    code = (
        "import sys, fedjax_compress\n"
        "from fedjax_compress.__main__ import main\n"
        "assert main(['run', '--rouds', '3']) == 2\n"
        "assert main(['run', '--uplink', 'a(']) == 2\n"
        "try:\n    main(['run', '--help'])\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        "heavy = {'jax', 'numpy', 'matplotlib', 'tensorflow', 'flax', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_all_rooms_start_no_device_and_no_tensorflow() -> None:
    code = (
        "import sys, fedjax_compress\n"
        "for name in fedjax_compress.__all__: getattr(fedjax_compress, name)\n"
        "from fedjax_compress.experiment import run\n"
        "import jax._src.xla_bridge as bridge\n"
        "assert not bridge._backends, bridge._backends\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_module_equals_program_and_a_closed_pipe_is_no_error() -> None:
    with subprocess_of(["list"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("data")
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    with subprocess_of(["--version"]) as process:
        assert process.communicate()[0].startswith("fedjax-compress ")
        assert process.returncode == 0


def wait_for_rounds(folder: Path, rounds: int, process: subprocess.Popen[str]) -> None:
    """Returns when so many rounds are recorded and the process still runs."""
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


def test_killed_and_stopped_runs_go_on_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run of 2 devices is killed, resumed, stopped by SIGTERM, and resumed."""
    rounds = ["--rounds", "150", "--devices", "2"]
    with subprocess_of(["run", "--output", "a", *rounds, *TINY], cwd=tmp_path) as one:
        wait_for_rounds(tmp_path / "a", 20, one)
        one.kill()
    assert not (tmp_path / "a" / files.SUMMARY).exists()
    with subprocess_of(["resume", "a"], cwd=tmp_path) as two:
        wait_for_rounds(tmp_path / "a", 60, two)
        two.send_signal(signal.SIGTERM)
        _, complaint = two.communicate()
    assert two.returncode == 143
    assert "stopped by SIGTERM after round" in complaint
    assert "go on with: fedjax-compress resume a" in complaint
    assert "Traceback" not in complaint
    assert main(["resume", str(tmp_path / "a"), "--quiet"]) == 0
    whole = ["run", "--output", str(tmp_path / "b"), "--quiet", *rounds, *TINY]
    assert main(whole) == 0
    assert capsys.readouterr() == ("", "")
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    digests = [
        json.loads((tmp_path / n / files.SUMMARY).read_text())["parameters_sha256"]
        for n in "ab"
    ]
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2, 3, 30, 31, 77])
def test_killed_anywhere(tmp_path: Path, at: int) -> None:
    """Killed where a save is in flight (every second round saves), then resumed."""
    tail = ["--rounds", "120", "--devices", "2", *TINY]
    with subprocess_of(["run", "--output", "a", *tail], cwd=tmp_path) as one:
        wait_for_rounds(tmp_path / "a", at, one)
        one.kill()
    assert main(["resume", str(tmp_path / "a"), "--quiet"]) == 0
    assert main(["run", "--output", str(tmp_path / "b"), "--quiet", *tail]) == 0
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    sums = [files.read_json(tmp_path / n / files.SUMMARY) for n in "ab"]
    assert sums[0]["parameters_sha256"] == sums[1]["parameters_sha256"]


def test_defaults_are_those_of_the_configuration() -> None:
    assert set(FIELDS) >= {
        "rounds", "clients", "cohort", "seed", "model", "data", "partition", "local",
        "server", "uplink", "downlink", "devices", "checkpoint_every",
    }  # fmt: skip
    assert Config().data == "digits"


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), RuntimeError("RESOURCE_EXHAUSTED: no room\nx")]
)
def test_too_little_memory_is_one_line(
    error: Exception,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("fedjax_compress.experiment.run", exhausted)
    (line,) = error_of(["run"], capsys)
    assert line.startswith("there is not enough memory: take fewer lanes")
    assert "no room" in line


def test_a_full_disk_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fedjax_compress.experiment.run", full)
    assert error_of(["run"], capsys) == ["cannot write: No space left on device"]


def test_closed_output_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["list", "sampling"]) == 0


def test_a_reader_that_has_gone_ends_a_run(tmp_path: Path) -> None:
    program = subprocess_of(["run", *TINY, "--rounds", "4", "--output", "run"],
        cwd=tmp_path)  # fmt: skip
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    with program.stderr:
        assert program.stderr.read() == ""
    assert program.wait() == 141
