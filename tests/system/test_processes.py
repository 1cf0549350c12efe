"""Runs of two processes on this machine, against the same run in one process."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import environment

from fedjax_compress.__main__ import main
from fedjax_compress.experiment import load_toml
from fedjax_compress.report import files, records
from fedjax_compress.runtime.orbax_files import NOTES

TINY = ["--clients", "12", "--cohort", "6", "--model", "logistic", "--lanes", "2"]
TINY += ["--local", "sgd(lr=0.1, steps=2, batch=5)", "--downlink", "identity"]
TINY += ["--evaluate-every", "4", "--checkpoint-every", "3", "--devices", "2"]
STATEFUL = ["--uplink", "error_feedback(top_k(0.1))"]
ROUNDS = 60
LIMIT = 300.0
"""Seconds after which a process is taken for one that hangs."""
SLOW = pytest.mark.slow


class Pair:
    """Two processes of one command; ended at the latest with the test."""

    def __init__(
        self, command: list[str], arguments: list[str], second: tuple[str, ...] = ()
    ):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.processes = [
            subprocess.Popen(
                [
                    *command,
                    *["--coordinator", f"127.0.0.1:{port}"],
                    *["--processes", "2", "--process-id", str(i)],
                    *arguments,
                    *(second if i else ()),
                ],
                env=environment(),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for i in range(2)
        ]

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def end(self) -> tuple[list[int], list[str], list[str]]:
        """Status, output and errors of each process, once both have ended."""
        texts = [p.communicate(timeout=LIMIT) for p in self.processes]
        status = [p.returncode for p in self.processes]
        return status, [out for out, _ in texts], [err for _, err in texts]

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Until something has happened, or a process has ended."""
        end = time.monotonic() + LIMIT
        while not ready():
            assert time.monotonic() < end
            assert all(p.poll() is None for p in self.processes), self.end()
            time.sleep(0.01)


def pair(command: str, folder: Path, *more: str, second: tuple[str, ...] = ()) -> Pair:
    """Two processes of ``run`` or ``resume``; the second one may get more options."""
    place = ["--output", str(folder)] if command == "run" else [str(folder)]
    tiny = TINY if command == "run" else []
    program = [sys.executable, "-m", "fedjax_compress", command]
    return Pair(program, [*place, *tiny, *more], second)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The records, without what depends on the clock."""
    found = records.read(folder / files.METRICS)
    return [{k: v for k, v in r.items() if k not in records.CLOCK} for r in found]


def done(folder: Path, rounds: int) -> bool:
    """Whether so many rounds are on record."""
    path = folder / files.METRICS
    return path.exists() and path.read_text().count("\n") >= rounds


def final(folder: Path) -> str:
    """The checksum of the final parameters."""
    found: str = files.read_json(folder / files.SUMMARY)["parameters_sha256"]
    return found


def close(a: Path, b: Path) -> None:
    """Equal to rounding; what is counted is equal."""
    for one, other in zip(lines(a), lines(b), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            if "bytes" in name or name in ("round", "clients", "dropped"):
                assert one[name] == other[name]
            else:
                np.testing.assert_allclose(one[name], other[name], rtol=2e-3)


def alone(folder: Path, *more: str) -> Path:
    """The same run in this process, on two devices."""
    assert main(["run", "--output", str(folder), *TINY, *more]) == 0
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing disturbs; clients keep state."""
    folder = tmp_path_factory.mktemp("processes") / "whole"
    with pair("run", folder, *STATEFUL, "--rounds", str(ROUNDS)) as two:
        status, out, errors = two.end()
    assert status == [0, 0], errors
    assert "test accuracy" in out[0]
    assert "Gloo" not in out[0]
    assert errors[0] == out[1] == errors[1] == ""  # only process 0 prints
    return folder


@SLOW
def test_state_by_process_and_on_with_other_devices(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stateful runs are equal to rounding; two processes, then one device."""
    newest = whole / files.CHECKPOINTS / f"{ROUNDS:08d}"
    parts = {p.name for p in newest.iterdir()} - set(NOTES)
    assert parts == {"arrays", "manifest.json", "mapped"}
    assert sorted(p.name for p in newest.parent.iterdir()) == [
        f"{ROUNDS - 3:08d}",
        newest.name,
        "part-0001",
    ]
    folder, more = tmp_path / "two", str(ROUNDS + 4)
    shutil.copytree(whole, folder)
    one = alone(tmp_path / "one", *STATEFUL, "--rounds", more, "--quiet")
    assert main(["resume", str(folder), "--rounds", more, "--devices", "1"]) == 0
    assert "from 2 devices of 2 processes to 1 device" in capsys.readouterr().out
    assert load_toml(folder / files.CONFIG).devices == 1
    close(folder, one)
    left = {p.name for p in (newest.parent / "part-0001").iterdir()}
    gone = folder / files.CHECKPOINTS / "part-0001"
    assert {p.name for p in gone.iterdir()} < left  # with the rounds they belong to


@pytest.mark.filterwarnings("always")  # the command line shows it as a line
def test_a_damaged_part_is_a_damaged_checkpoint(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One flipped bit in what process 1 has written: the one before is taken."""
    folder = tmp_path / "two"
    shutil.copytree(whole, folder)
    (folder / files.SUMMARY).unlink()
    part = folder / files.CHECKPOINTS / "part-0001" / f"{ROUNDS:08d}"
    file = max(part.rglob("*.bin"), key=lambda p: p.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert main(["resume", str(folder)]) == 0
    found = capsys.readouterr()
    name = f"part-0001/{ROUNDS:08d}/mapped/{file.name}"
    assert f"{name} differs from its checksum" in found.err
    assert f"going on after round {ROUNDS - 3}" in found.out
    close(folder, whole)


@SLOW
def test_two_processes_are_two_devices(tmp_path: Path) -> None:
    """Bit for bit where clients keep nothing."""
    folder = tmp_path / "two"
    with pair("run", folder, "--rounds", "5") as two:
        status, _, errors = two.end()
    assert status == [0, 0], errors
    one = alone(tmp_path / "one", "--rounds", "5", "--quiet")
    assert lines(folder) == lines(one)
    assert final(folder) == final(one)
    assert load_toml(folder / files.CONFIG) == load_toml(one / files.CONFIG)


@pytest.mark.slow
def test_one_process_goes_on_with_any_number_of_devices(tmp_path: Path) -> None:
    """Equal to rounding; lanes, chosen for one device, are fewer on three."""
    folder, straight = tmp_path / "changed", tmp_path / "straight"
    start = [*STATEFUL, "--lanes", "0", "--devices", "1", "--quiet", "--rounds"]
    assert main(["run", "--output", str(straight), *TINY, *start, "9"]) == 0
    assert main(["run", "--output", str(folder), *TINY, *start, "4"]) == 0
    lanes = load_toml(folder / files.CONFIG).lanes
    for rounds, devices in ((8, 3), (9, 2)):
        more = ["--rounds", str(rounds), "--devices", str(devices), "--quiet"]
        assert main(["resume", str(folder), *more]) == 0
        found = load_toml(folder / files.CONFIG)
        assert (found.devices, found.lanes) == (devices, lanes)
    for one, other in zip(lines(folder), lines(straight), strict=True):
        np.testing.assert_allclose(one["train_loss"], other["train_loss"], rtol=2e-3)


def test_a_stop_of_one_process_stops_all(tmp_path: Path) -> None:
    """After the same round, and a resume goes on bit for bit."""
    folder = tmp_path / "two"
    with pair("run", folder, *STATEFUL, "--rounds", "4000") as two:
        two.wait_for(lambda: done(folder, 4))
        two.processes[1].send_signal(signal.SIGTERM)
        status, _, errors = two.end()
    assert status == [143, 143], errors
    finished = len(lines(folder))
    text = f"stopped by SIGTERM after round {finished}, everything is saved"
    assert errors[0].startswith(f"fedjax-compress: {text}")
    assert errors[1].startswith(f"fedjax-compress: process 1: {text}")
    assert all(len(e.splitlines()) == 1 for e in errors)
    newest = max((folder / files.CHECKPOINTS).glob("0*")).name
    assert int(newest) == finished


@pytest.mark.parametrize(
    "victim", [1, pytest.param(0, marks=pytest.mark.slow)], ids=["other", "leader"]
)
def test_a_killed_process_ends_all_and_nothing_is_lost(
    whole: Path, tmp_path: Path, victim: int
) -> None:
    """The others end with one clear line; resumed, the run is the uninterrupted one.

    Where process 0 is killed JAX's runtime may be the first to speak.
    """
    folder = tmp_path / "two"
    with pair("run", folder, *STATEFUL, "--rounds", str(ROUNDS)) as two:
        two.wait_for(lambda: done(folder, 8))
        two.processes[victim].kill()
        begin = time.monotonic()
        status, _, errors = two.end()
        assert time.monotonic() - begin < 30
    assert status[victim] == -signal.SIGKILL
    assert status[1 - victim] == 3, errors
    text = f"process {victim} of 2 has ended unexpectedly; go on, with all processes"
    who = "" if victim else "process 1: "
    said = errors[1 - victim].splitlines()
    assert said[-1].startswith(f"fedjax-compress: {who}{text}"), errors
    assert len(said) == 1 or not victim
    assert 8 <= len(lines(folder)) < ROUNDS
    with pair("resume", folder) as two:
        status, _, errors = two.end()
    assert status == [0, 0], errors
    assert lines(folder) == lines(whole)
    assert final(folder) == final(whole)


@SLOW
def test_a_process_that_falls_silent_ends_all(tmp_path: Path) -> None:
    """Its connections stay open and nothing fails: only the runtime notices."""
    folder = tmp_path / "two"
    with pair("run", folder, "--rounds", "4000", "--heartbeat", "5") as two:
        two.wait_for(lambda: done(folder, 4))
        two.processes[1].send_signal(signal.SIGSTOP)
        _, error = two.processes[0].communicate(timeout=60)
        assert two.processes[0].returncode == 3, error
    text = "process 1 of 2 has ended unexpectedly; go on, with all processes, with: "
    assert error.splitlines()[-1].startswith(f"fedjax-compress: {text}")


STREAMED = """
UPLINKS = ["error_feedback(on_vector(top_k(0.2)))"]
import json, re, sys
import jax, numpy as np
from fedjax_compress import algorithms, clients, compress, registry, tree
from fedjax_compress.runtime import distributed
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Setup, Task

def run(uplink, devices):
    model = registry.build("model", "mlp(hidden=(7,))", Task((5,), 3))
    algorithm = algorithms.fedavg(Setup(
        registry.build("local", "sgd(batch=4)", model),
        registry.build("aggregate", "mean"), registry.build("server", "fedavg"),
        compress.parse(uplink), compress.parse("identity")))
    rng = np.random.default_rng(2)
    owner = np.repeat(np.arange(13), 1 + rng.integers(0, 12, 13)).astype(np.int32)
    features = rng.normal(size=(len(owner), 5)).astype(np.float32)
    labels = rng.integers(0, 3, len(owner)).astype(np.int32)
    columns = {"features": features, "labels": labels}
    data = clients.group(columns, owner, 13)
    sampling = registry.build("sampling", "uniform")
    simulator = Simulator(algorithm, data, cohort=9, lanes=2, devices=devices,
                          sampling=sampling, resident_limit=0)
    state, found = simulator.advance(simulator.start(model.init(jax.random.key(0))), 4)
    text = simulator.programs.compiled[0].as_text()
    names = r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-\\w+)"
    server = jax.device_get(simulator.placement.local(state.server))
    return {
        "collectives": re.findall(names + r"(?:-start)?\\(", text),
        "loss": [r["train_loss"] for r in found],
        "bytes": [r["bytes_up"] for r in found],
        "sha256": tree.sha256(server.params),
        "norm": float(sum(np.sum(np.abs(x)) for x in jax.tree.leaves(server.params))),
    }

def both(devices):
    return [run(uplink, devices) for uplink in UPLINKS]

if __name__ == "__main__":
    address, count, index = sys.argv[2], int(sys.argv[4]), int(sys.argv[6])
    distributed.start(distributed.Launch(address, count, index))
    distributed.link()
    print(json.dumps(both(2)))
    distributed.leave(0)
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(STREAMED, marks=SLOW),
        pytest.param(STREAMED.replace("]", ', "identity"]', 1), marks=SLOW),
    ],
    ids=["with state", "without"],
)
def test_streamed_rows_and_states_and_one_reduction(
    tmp_path: Path, program: str
) -> None:
    """Each process reads its own clients' rows; both hold the same result."""
    script = tmp_path / "streamed.py"
    script.write_text(program)
    with Pair([sys.executable, str(script)], []) as two:
        status, out, errors = two.end()
    assert status == [0, 0], errors
    assert out[0] == out[1]
    found = json.loads(out[0])
    here: dict[str, Any] = {"__name__": "here"}
    exec(compile(program, str(script), "exec"), here)
    expected = here["both"](2)
    assert found[0]["bytes"] == expected[0]["bytes"]
    assert found[0]["collectives"] == expected[0]["collectives"] == ["all-reduce"]
    for name in ("loss", "norm"):
        np.testing.assert_allclose(found[0][name], expected[0][name], rtol=1e-5)
    if len(found) > 1:
        assert found[1] == expected[1]  # without state bit for bit


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--coordinator", "a:1"], "--processes and --process-id must be given too"),
        (["--processes", "2", "--process-id", "0"], "--coordinator must be given too"),
        (["--distributed"], "--distributed finds no cluster it knows"),
    ],
)
def test_a_launch_that_cannot_work_is_one_line(
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    assert main(["run", *options]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert len(found.err.splitlines()) == 1
    assert words in found.err
    assert list(tmp_path.iterdir()) == []


def test_processes_with_other_settings_are_refused(tmp_path: Path) -> None:
    """One line, nothing written, and nobody waits for ever."""
    folder = tmp_path / "two"
    with pair("run", folder, "--rounds", "3", second=("--seed", "5")) as two:
        status, _, errors = two.end()
    assert status == [2, 2], errors
    for error in errors:
        assert "seed is 0 in process 0 and 5 in process 1" in error
    assert not folder.exists()
