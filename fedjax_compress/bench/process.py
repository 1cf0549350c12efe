"""Workers as the measuring process sees them: started, asked, and ended for sure."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

from fedjax_compress.bench.case import Case
from fedjax_compress.errors import InputError
from fedjax_compress.registry import imports

_DEVICE_FLAG = r"--xla_force_host_platform_device_count=\S+"
_LONGEST = 300
_MODULE = "fedjax_compress.bench.worker"


class WorkerError(InputError):
    """A worker process has ended before its work was done."""


def environment() -> dict[str, str]:
    """The environment of a worker.

    Each takes device memory as it needs it, since several stand side by side; sets its
    own number of host devices; and compiles, so that the time of that can be told.
    """
    found = dict(os.environ)
    found["XLA_FLAGS"] = re.sub(_DEVICE_FLAG, "", found.get("XLA_FLAGS", "")).strip()
    found["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    found["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    return found


class Worker:
    """A process that runs one case; a context, at whose end it is killed.

    It runs in a session of its own, so that Ctrl-C reaches the parent alone.

    Attributes:
      case: what it runs.
      ready: its first answer, once ``wait`` has returned.
    """

    def __init__(self, case: Case):
        self.case = case
        self.ready: dict[str, Any] = {}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, *imports.current()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
            text=True,
            start_new_session=True,
        )
        self._send(json.dumps(case._asdict()))

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:
                continue

    @property
    def process(self) -> int:
        """The id of the process."""
        return self._process.pid

    def wait(self) -> dict[str, Any]:
        """The first answer: everything is compiled and one round has been run."""
        self.ready = self._receive()
        return self.ready

    def turn(self) -> dict[str, Any]:
        """Runs one turn.

        Raises:
          WorkerError: the process has died.
          InputError: the case cannot be used.
        """
        self._send("turn")
        return self._receive()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._death()
        found = json.loads(line)
        if "error" in found:
            raise InputError(f"{self.case}: {found['error']}")
        return found

    def _death(self) -> WorkerError:
        """One line that says how it died and how its last words ended."""
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split()
        how = f"status {status}"
        if status < 0:
            how = f"{signal.Signals(-status).name}"
            if status == -signal.SIGKILL:
                how += " (out of memory?)"
        words = " ".join(said)[-_LONGEST:] or "nothing"
        return WorkerError(
            f"the process of {self.case} ended with {how}; on its stderr: {words}"
        )
