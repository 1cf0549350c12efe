"""JAX's coordination service as a program of its own, started by process 0.

JAX runs it inside process 0 and ends all other processes with a stack trace as soon
as it is gone. In a process of its own it survives process 0 for a moment, in which the
others say in one line what has happened and how to go on. Run as a file, so that it
imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SURVIVES = 5.0
"""Seconds after the end of process 0; longer than the others take to end."""
_FREE = 15.0
"""Seconds in which the port has to become free, if a run on it has just ended."""


class Service:
    """The service in a process of its own; made and used as JAX's is.

    Raises:
      RuntimeError: it cannot be started; the address is in use, say.
    """

    def __init__(self, address: str, nodes: int, **options: Any):
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__)), address, str(nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._say(json.dumps(options))
        assert self._process.stdout is not None
        error = json.loads(self._process.stdout.readline() or '"it has ended at once"')
        if error:
            self._process.wait()
            raise RuntimeError(error)

    def shutdown(self) -> None:
        """Ends the service."""
        self._say("end")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)

    def end_with_me(self) -> None:
        """Nobody else is left: the service need not survive this process."""
        self._say("with you")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """While this context is open, JAX starts its service in a process of its own.

    JAX has no public way to this. Where its insides have changed nothing is done, and
    the death of process 0 is less nice to read.
    """
    from jax._src.lib import _jax

    name = "get_distributed_runtime_service"
    usual = getattr(_jax, name, None)
    if usual is None:
        yield
        return
    setattr(_jax, name, Service)
    try:
        yield
    finally:
        setattr(_jax, name, usual)


def _serve(address: str, nodes: int) -> None:
    from jax._src.lib import _jax

    # Meant for process 0, which ends this one when it is done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    options, error = json.loads(sys.stdin.readline()), ""
    try:
        _wait_until_free(int(address.rpartition(":")[2]))
        service = _jax.get_distributed_runtime_service(address, nodes, **options)
    except Exception as failure:
        error = str(failure) or repr(failure)
    print(json.dumps(error), flush=True)
    if error:
        return
    word = sys.stdin.readline().strip()
    if word == "with you":
        sys.stdin.readline()
    elif not word:
        time.sleep(_SURVIVES)
    service.shutdown()


def _wait_until_free(port: int) -> None:
    """The service itself would share the port with another one.

    Raises:
      OSError: it is in use.
    """
    end = time.monotonic() + _FREE
    while True:
        try:
            socket.create_server(("", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
