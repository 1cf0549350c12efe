"""What the processes of a run agree on, beside what the compiled program computes.

It goes the same way as a round: all processes hand in a row of bytes, and a collective
gives everybody all rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fedjax_compress.errors import CheckpointError, InputError, Lost

T = TypeVar("T")
Gather = Callable[[np.ndarray], np.ndarray]
"""uint8 [bytes], as many in each process -> uint8 [processes, bytes]."""
_ROW, _HEAD = 512, 4
"""Bytes of the first row, and those of the number that it begins with."""
_SIGNS = ("Gloo", "NCCL", "Connection", "UNAVAILABLE", "coordination service")


class Link:
    """What the processes of a run say to each other; alone, to nobody.

    All processes call ``agree``, ``lead`` and ``same`` in the same order, from their
    main thread. There are no time limits: one may take hours to evaluate, the others
    wait.

    Args:
      index: of this process, 0 to count - 1.
      count: number of processes.
      gather: the collective.

    Attributes:
      hint: what a user can do when a process is lost, in a few words.
    """

    def __init__(self, index: int = 0, count: int = 1, gather: Gather | None = None):
        self.index, self.count, self.hint = index, count, ""
        self._gather = gather

    @property
    def leads(self) -> bool:
        """Whether this is process 0, which writes and prints."""
        return self.index == 0

    def agree(self, value: Any) -> list[Any]:
        """The value that each process has given, in order of processes; JSON.

        Raises:
          Lost: a process has ended instead of giving one.
        """
        if self._gather is None:
            return [value]
        data = json.dumps(value).encode()
        try:
            rows = self._gather(_row(len(data).to_bytes(_HEAD, "little") + data, _ROW))
            sizes = [int.from_bytes(row[:_HEAD], "little") for row in rows]
            rows = rows[:, _HEAD:]
            if (most := max(sizes)) > rows.shape[1]:
                # Few sizes, for each is a program of its own.
                rows = self._gather(_row(data, 1 << most.bit_length()))
        except (RuntimeError, ValueError) as error:
            self.blame(error)
            raise
        both = zip(rows, sizes, strict=True)
        return [json.loads(row[:size].tobytes()) for row, size in both]

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

    def blame(self, error: Exception) -> None:
        """Raises Lost if a collective has failed because a process has ended."""
        if self.count > 1 and any(sign in str(error) for sign in _SIGNS):
            raise Lost(self.loss()) from error

    def loss(self) -> str:
        """What to say of it, in a line."""
        who = f"process {1 - self.index}" if self.count == 2 else "another process"
        hint = f"; {self.hint}" if self.hint else ""
        return f"{who} of {self.count} has ended unexpectedly{hint}"


def _row(data: bytes, size: int) -> np.ndarray:
    """The first bytes, and zeros behind them where there are fewer."""
    return np.frombuffer(data[:size].ljust(size, b"\0"), np.uint8)


ALONE = Link()
