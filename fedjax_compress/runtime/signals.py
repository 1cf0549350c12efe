"""Turns a wish to stop into a flag, so that a round is finished and saved first."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """A context in which SIGTERM and the first Ctrl-C only set a flag.

    A second Ctrl-C raises ``KeyboardInterrupt`` as usual. The old handlers come back
    on leaving. Signals reach only the main thread of a process; in another thread
    nothing is changed and the flag is set by ``request`` alone.

    Example:
      with Stop() as stop:
          while rounds_are_left and not stop:
              ...

    Attributes:
      name: the signal that came, such as ``SIGTERM``; empty until then.
    """

    def __init__(self) -> None:
        self.name = ""
        self._interrupted = False
        self._old: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.name)

    def request(self, name: str = "request") -> None:
        """Sets the flag without a signal."""
        self.name = self.name or name

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, old in self._old.items():
            # None stands for a handler that was not set from Python.
            signal.signal(number, signal.SIG_DFL if old is None else old)
        self._old.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        self.request(signal.Signals(number).name)
