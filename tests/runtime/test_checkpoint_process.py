"""Checkpoints and the life of the process: killed, ended early, threads."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fedjax_compress.runtime.checkpoint import Checkpoints

CHILD = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np
import fedjax_compress.runtime.checkpoint as checkpoint
assert "orbax" not in sys.modules
checkpoints = checkpoint.Checkpoints(sys.argv[1], {"seed": 1}, keep=2)
for r in range(1, int(sys.argv[2]) + 1):
    tree = {"a": np.full(300_000, r, np.float32), "r": r}
    checkpoints.save(r, tree, {"round": r})
    print(r, flush=True)
"""


def start(folder: Path, rounds: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_survivor(folder: Path, at_least: int) -> None:
    like = {"a": np.zeros(300_000, np.float32), "r": 0}
    checkpoints = Checkpoints(folder, {"seed": 1})
    r, tree, extra = checkpoints.restore(like)
    assert at_least <= r == tree["r"] == extra["round"]
    assert (tree["a"] == r).all()
    with checkpoints:
        checkpoints.save(r + 1, tree, extra)
    assert len(list(folder.iterdir())) <= 2


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.012])
def test_a_killed_process_leaves_a_usable_checkpoint(tmp_path, delay):
    child = start(tmp_path, 100_000)
    assert child.stdout is not None
    for r in range(1, 7):
        assert child.stdout.readline() == f"{r}\n"
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    check_survivor(tmp_path, at_least=5)  # save 6 has waited for save 5


def test_a_program_that_ends_without_waiting_ends_with_the_save(tmp_path):
    child = start(tmp_path, 3)
    try:
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0
    assert errors == ""
    check_survivor(tmp_path, at_least=3)


def test_no_thread_outlives_a_save(tmp_path, saves):
    before = set(threading.enumerate())
    saves.write(tmp_path, [1, 2])
    ends = time.monotonic() + 10  # the last of a pool may be on its way out
    while set(threading.enumerate()) - before and time.monotonic() < ends:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
