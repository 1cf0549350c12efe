"""A part in a process of its own: heard while it runs, and killed at its limit."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[3]
_LONGEST = 300
Said = Callable[[dict[str, Any]], None]


_HASTE = " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""XLA's options that compile in half the time, for programs that are slower."""


def environment(quick: bool) -> dict[str, str]:
    """Of a part: this checkout's package, and nothing that was compiled before."""
    found = dict(os.environ)
    paths = [str(ROOT), found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    found["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    found["FEDJAX_COMPRESS_CACHE"] = "off"
    if quick:
        found["XLA_FLAGS"] = found.get("XLA_FLAGS", "") + _HASTE
    return found


def run(command: Sequence[str], seconds: float, said: Said, quick: bool = False) -> str:
    """Runs a command until it ends or its time is over; how it ended, in words.

    Each line of its stdout that is a JSON object is given to ``said`` at once, so that
    nothing is lost with the process.

    Args:
      command: what to run.
      seconds: after these it and its children are killed.
      said: is told each line.
      quick: whether its programs are compiled in haste.
    """
    end = time.monotonic() + seconds
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(quick),
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            in_time = _listen(process.stdout, end, said)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()) if in_time else 0)
            status = process.returncode
        finally:
            _kill(process)
        if status is None:
            return f"killed at its limit of {seconds:.0f} s"
        return "finished" if status == 0 else _death(status, errors)


def _listen(pipe: IO[bytes], end: float, said: Said) -> bool:
    """Hears a process until it closes its stdout (True) or its time is over."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            found = os.read(pipe.fileno(), 1 << 16)
            if not found:
                return True
            *lines, rest = (rest + found).split(b"\n")
            for line in lines:
                _tell(line, said)
    return False


def _tell(line: bytes, said: Said) -> None:
    try:
        value = json.loads(line)
    except ValueError:
        return  # a library that prints
    if isinstance(value, dict):
        said(value)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and what it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _death(status: int, errors: IO[bytes]) -> str:
    """How a process died, and the end of what it said on stderr."""
    how = f"status {status}"
    if status < 0:
        how = signal.Signals(-status).name
        how += " (out of memory?)" if status == -signal.SIGKILL else ""
    errors.seek(0)
    words = " ".join(errors.read().decode(errors="replace").split())[-_LONGEST:]
    return f"ended with {how}; on its stderr: {words or 'nothing'}"
