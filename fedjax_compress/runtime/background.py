"""A thread whose work the end of the program waits for, and does not cut off."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401
import functools
import threading
from collections.abc import Callable

_running: set[threading.Thread] = set()


def start(work: Callable[[], None], name: str) -> threading.Thread:
    """Runs ``work`` in a thread.

    The interpreter waits for such threads anyway, but closes all thread pools before,
    so that work which needs one fails half-way, or waits for an answer that no longer
    comes. This one is waited for while the pools are still open.
    """
    _wait_at_exit()

    def run() -> None:
        try:
            work()
        finally:
            _running.discard(thread)

    thread = threading.Thread(target=run, name=name)
    _running.add(thread)
    thread.start()
    return thread


@functools.cache
def _wait_at_exit() -> None:
    # ``atexit`` runs too late. The hook of ``concurrent.futures`` was registered when
    # that was imported, above; hooks run in reverse order, so ours is before it.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_join)


def _join() -> None:
    for thread in list(_running):
        thread.join()
