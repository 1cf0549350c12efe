"""Words between the processes of a run, and how each learns that one is gone.

Devices talk through the collectives of the compiled program; what else the processes
have to agree on goes through here: lines of JSON over a socket from each process to
process 0. There are no time limits: one may take hours to evaluate, the others wait.
A process that dies closes its socket, so that the others know at once.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from fedjax_compress.errors import CheckpointError, InputError, Lost

T = TypeVar("T")
_GRACE = 4.0
"""Seconds that the main thread has to notice a loss, before the process is ended."""
_BLAME = 10.0
"""Seconds in which a broken collective is explained by the loss of a process."""
_LEAVE = 5.0
_ENDED = object()


class Link:
    """What the processes of a run say to each other; alone, to nobody.

    All processes call ``agree`` and ``lead`` in the same order, from their main thread.

    Args:
      index: of this process, 0 to count - 1.
      count: number of processes.
      sockets: by the index of the process at the other end: from process 0 to all
        others, from the others to process 0.

    Attributes:
      hint: what a user can do when a process is lost, in a few words.
    """

    def __init__(
        self,
        index: int = 0,
        count: int = 1,
        sockets: dict[int, socket.socket] | None = None,
    ):
        self.index, self.count, self.hint = index, count, ""
        self.lost: Lost | None = None
        self._sockets = sockets or {}
        self._values: dict[int, queue.SimpleQueue[Any]] = {}
        self._notes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._away = {p: threading.Event() for p in self._sockets}
        self._fell = threading.Event()
        self._lock, self._leaving = threading.Lock(), False
        for process, end in self._sockets.items():
            self._values[process] = queue.SimpleQueue()
            threading.Thread(
                target=self._listen,
                args=(process, end),
                name=f"link to process {process}",
                daemon=True,
            ).start()

    @property
    def leads(self) -> bool:
        """Whether this is process 0, which writes and prints."""
        return self.index == 0

    def agree(self, value: Any) -> list[Any]:
        """The value that each process has given, in order of processes; JSON.

        Raises:
          Lost: a process has ended instead of giving one.
        """
        if self.count == 1:
            return [value]
        if not self.leads:
            self._send(0, {"value": value})
            return self._take(0)
        values = [value, *(self._take(p) for p in range(1, self.count))]
        for process in self._sockets:
            self._send(process, {"value": values})
        return values

    def lead(self, work: Callable[[], T]) -> T:
        """The result of ``work``, done by process 0, on every process; JSON.

        Raises:
          InputError: raised by ``work``; on all processes alike.
          Lost: a process has ended.
        """
        if self.count == 1:
            return work()
        found: list[Any] = []
        if self.leads:
            try:
                found = ["result", work()]
            except InputError as error:
                self.agree([type(error).__name__, str(error)])
                raise
        kind, result = self.agree(found)[0]
        if kind == "result":
            return result
        raise (CheckpointError if kind == "CheckpointError" else InputError)(result)

    def same(self, value: dict[str, Any], what: str) -> None:
        """Raises InputError, on all processes, where one has another ``value``."""
        for process, other in enumerate(values := self.agree(value)):
            for name, mine in values[0].items():
                if other.get(name) != mine:
                    raise InputError(
                        f"the processes were started with different {what}: {name} is "
                        f"{mine!r} in process 0 and {other.get(name)!r} in process "
                        f"{process}"
                    )

    def note(self, value: Any) -> None:
        """Tells process 0 something without waiting; from any thread."""
        self._send(0, {"note": value})

    def noted(self) -> tuple[int, Any]:
        """The next note to process 0: (process, value); one thread at a time.

        Raises:
          Lost: a process has ended.
        """
        item = self._notes.get()
        if item is _ENDED:
            self._notes.put(_ENDED)
            raise self._loss()
        found: tuple[int, Any] = item
        return found

    def blame(self) -> None:
        """Raises Lost if a collective has failed because a process has ended."""
        if self.count > 1 and self._fell.wait(_BLAME):
            raise self._loss()

    def leave(self, status: int) -> None:
        """Says goodbye. Where all end early, process 0 is the last one to do so.

        Args:
          status: with which this process ends; the others go on if it is 0.
        """
        with self._lock:
            if self._leaving:
                return
            self._leaving = True
        for process in self._sockets:
            self._try_to_send(process, {"bye": status})
        if status and self.leads:
            for away in self._away.values():
                away.wait(_LEAVE)

    def _take(self, process: int) -> Any:
        item = self._values[process].get()
        if item is _ENDED:
            self._values[process].put(_ENDED)
            raise self._loss()
        return item

    def _loss(self) -> Lost:
        assert self.lost is not None
        return Lost(str(self.lost) + (f"; {self.hint}" if self.hint else ""))

    def _send(self, process: int, message: dict[str, Any]) -> None:
        if not self._try_to_send(process, message):
            self.blame()
            raise Lost(f"process {process} cannot be reached")

    def _try_to_send(self, process: int, message: dict[str, Any]) -> bool:
        with self._lock:
            try:
                self._sockets[process].sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                return False
        return True

    def _listen(self, process: int, end: socket.socket) -> None:
        """Takes in what one process says; runs in a thread of its own."""
        status: int | None = None
        try:
            for line in end.makefile("rb"):
                message = json.loads(line)
                if "value" in message:
                    self._values[process].put(message["value"])
                elif "note" in message:
                    self._notes.put((process, message["note"]))
                elif "gone" in message:
                    self._lose(*message["gone"])
                else:
                    status = message["bye"]
                    if status:
                        self._lose(process, status)
        except (OSError, ValueError):
            pass  # as if it had closed the connection
        self._away[process].set()
        if status is None:
            self._lose(process, status)

    def _lose(self, process: int, status: int | None) -> None:
        with self._lock:
            if self.lost is not None or self._leaving:
                return
            how = "unexpectedly" if status is None else f"with status {status}"
            self.lost = Lost(f"process {process} of {self.count} has ended {how}")
        for other in self._sockets:
            if other != process and self.leads:
                self._try_to_send(other, {"gone": [process, status]})
        for waiting in [*self._values.values(), self._notes]:
            waiting.put(_ENDED)
        self._fell.set()
        timer = threading.Timer(_GRACE, self._give_up)
        timer.daemon = True
        timer.start()

    def _give_up(self) -> None:
        """The main thread is stuck in a collective that will never come to its end."""
        if not self._leaving:
            who = f"process {self.index}: " if self.index else ""
            print(f"fedjax-compress: {who}{self._loss()}", file=sys.stderr, flush=True)
            self.leave(Lost.STATUS)
            os._exit(Lost.STATUS)


ALONE = Link()
