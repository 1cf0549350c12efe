"""Workers: they answer, they end with their parent's wish, and they die loudly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedjax_compress.bench import Case, Worker, WorkerError, measure
from fedjax_compress.errors import InputError

TINY = Case("W2", 2, population=10)


def gone(process: int) -> bool:
    """Whether there is no such process, or only what is left of it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


def test_a_killed_worker_is_one_line() -> None:
    with Worker(TINY) as worker:
        assert round(worker.wait()["loss_initial"], 4) == 4.4242
        os.kill(worker.process, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"of W2, 2 clients, engine.*SIGKILL"):
            worker.turn()


def test_a_worker_that_fails_says_why_and_one_that_refuses_too() -> None:
    broken = TINY._replace(contender="nobody")
    with Worker(broken) as worker, pytest.raises(WorkerError) as caught:
        worker.wait()
    assert "status 1" in str(caught.value)
    assert str(caught.value).endswith("KeyError: 'nobody'")
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match="population must be at least 2"):
        measure([TINY._replace(population=1)], 1)


def test_no_worker_outlives_an_interrupt(tmp_path: Path) -> None:
    """Ctrl-C to the command while a worker is at work: status 130, nobody left."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fedjax_compress.bench import process\n"
        "old = process.Worker.wait\n"
        "def wait(self):\n"
        "    print(self.process, flush=True)\n"
        "    return old(self)\n"
        "process.Worker.wait = wait\n"
        "from fedjax_compress.__main__ import main\n"
        "arguments = ['bench', '--workload', 'W2', '--rounds', '100000', '--quiet']\n"
        "sys.exit(main(arguments))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert not gone(worker)
        parent.send_signal(signal.SIGINT)
        _, complaint = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert complaint == "fedjax-compress: interrupted\n"
    assert gone(worker)


def test_a_worker_ends_where_its_input_ends() -> None:
    """As when the parent is killed."""
    with Worker(TINY) as worker:
        worker.wait()
        assert worker._process.stdin is not None
        worker._process.stdin.close()
        begin = time.monotonic()
        while not gone(worker.process):
            assert time.monotonic() - begin < 60
            time.sleep(0.01)
        assert worker._process.wait() == 0
