"""A callback ends a run of two processes: the first is asked, both end well."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from processes import environment

from fedjax_compress.report import files, records

PROGRAM = """
import sys

from fedjax_compress.experiment import Callback, Config, StopRun, run
from fedjax_compress.runtime import distributed

index, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]


class Three(Callback):
    def start(self, run):
        print("started", flush=True)

    def round(self, record, state):
        if record["round"] == 3:
            raise StopRun("three are enough")

    def end(self, summary):
        print("ended", flush=True)


distributed.start(distributed.Launch(f"127.0.0.1:{port}", 2, index))
config = Config(
    clients=8, cohort=4, rounds=50, model="logistic", uplink="identity", devices=2,
    downlink="identity", local="sgd(lr=0.1, steps=2, batch=5)", lanes=2,
)
summary = run(config, folder, quiet=True, callbacks=[Three()])
print(summary["rounds"], summary["stop_reason"])
distributed.leave(0)
"""


def test_both_processes_end(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, str(tmp_path / "program.py")]
    processes = [
        subprocess.Popen(
            [*command, str(i), str(port), str(tmp_path / "a")],
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]
    try:
        texts = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [p.returncode for p in processes] == [0, 0], texts
    assert [out.splitlines() for out, _ in texts] == [
        ["started", "ended", "3 three are enough"],
        ["3 three are enough"],
    ]
    history = records.read(tmp_path / "a" / files.METRICS)
    assert "test_loss" in history[-1]
    assert (tmp_path / "a" / files.CHECKPOINTS / "00000003").is_dir()
