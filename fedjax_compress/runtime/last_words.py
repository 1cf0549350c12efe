"""What is said when JAX ends this process, for it has heard that another one is gone.

Where a collective fails by that, Python hears of it. Where none is under way, or it
hangs, as on a GPU, JAX's runtime prints a page of its own and aborts. Two promises are
kept here for that case: the last line on stderr says what has happened and how to go
on, and the exit status is the one of a lost process.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_kept: list[object] = []
"""What C holds a pointer to."""


def prepare(words: Callable[[], str], status: int) -> None:
    """Has a line said, and the status set, when this process aborts.

    Args:
      words: gives the line; called in the thread that aborts.
      status: with which the process ends.
    """

    def speak(number: int) -> None:
        try:
            if line := words():
                os.write(2, f"{line}\n".encode())
        finally:
            os._exit(status)

    # Not Python's own: that one only notes a signal for later, and there is no later.
    handler = _HANDLER(speak)
    _kept.append(handler)
    system = ctypes.CDLL(None)
    system.signal.argtypes, system.signal.restype = [ctypes.c_int, _HANDLER], None
    system.signal(signal.SIGABRT, handler)


def leave(status: int) -> None:
    """An abort from here on is silent, and has this status."""
    if _kept:
        prepare(str, status)
