"""What is shown while a run goes on: one live line, or plain lines, or nothing."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fedjax_compress.report.records import Record
from fedjax_compress.report.scores import ACCURACY, Score
from fedjax_compress.report.words import duration, megabytes, number, short, virtual

PLAIN_WIDTH = 240
"""Columns where the output is no terminal: tables are as wide as they need."""
_LINES, _BRIEF_LINES = 20, 4
_SECONDS_BETWEEN = 0.1


def make_console(quiet: bool = False, stderr: bool = False) -> Console:
    """The console of this program: plain, of a fixed width where no terminal is."""
    console = Console(quiet=quiet, stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.on_broken_pipe = _broken_pipe  # type: ignore[method-assign]
    return console


def _broken_pipe() -> None:
    """Instead of rich's silent exit with status 1."""
    raise BrokenPipeError


def fitting(line: str, width: int, score: Score = ACCURACY) -> str:
    """The line, without its longer words where the terminal is narrow."""
    if len(line) >= width:
        for word in ("round ", f"{score.words} "):
            line = line.replace(word, "")
        line = line.replace(" clients/s", "/s")
    return line


class Progress:
    """Shows each round's figures: live on a terminal, else some twenty plain lines.

    Args:
      console: where to; a quiet one shows nothing.
      rounds: number of rounds of the whole run.
      before: records of rounds finished earlier, when a run is resumed.
      brief: four plain lines instead of twenty.
      score: which is shown.
    """

    def __init__(
        self,
        console: Console,
        rounds: int,
        before: list[Record],
        brief: bool = False,
        score: Score = ACCURACY,
    ):
        self.console, self.score = console, score
        self.lines = _BRIEF_LINES if brief else _LINES
        self.rounds = rounds
        self.first = len(before)
        self.last: float | None = None
        self.up = self.down = self.dropped = 0
        self.virtual: float | None = None
        self._begin: float | None = None
        self._shown = 0.0
        self._live: Live | None = None
        for record in before:
            self._count(record)

    def __enter__(self) -> Progress:
        if self.console.is_terminal and not self.console.quiet:
            self._live = Live(
                Text("compiling the round ..."),
                console=self.console,
                auto_refresh=False,
                transient=True,
            )
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _count(self, record: Record) -> None:
        self.up += record["bytes_up"]
        self.down += record["bytes_down"]
        self.dropped += record["dropped"]
        self.last = record.get(self.score.key, self.last)
        if "virtual_seconds" in record:
            self.virtual = (self.virtual or 0.0) + record["virtual_seconds"]

    def update(self, record: Record) -> None:
        """Takes in and shows the record of the round just finished."""
        self._count(record)
        line = self.line(record)
        now, done = time.monotonic(), record["round"]
        if self._begin is None:
            self._begin, self.first = now, done
        if self._live is not None:
            if now - self._shown >= _SECONDS_BETWEEN or done == self.rounds:
                line = fitting(line, self.console.width, self.score)
                self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
                self._live.refresh()
                self._shown = now
        elif self._is_due(done):
            self.console.print(Text(line, no_wrap=True), soft_wrap=True)

    def _is_due(self, done: int) -> bool:
        before = self.lines * (done - 1) // self.rounds
        return self.lines * done // self.rounds > before

    def line(self, record: Record) -> str:
        """The figures of a round in one line."""
        width = len(str(self.rounds))
        parts = [f"round {record['round']:{width}d}/{self.rounds}"]
        if self.last is not None:
            parts.append(f"{self.score.words} {self.score.show(self.last)}")
        parts += [
            f"loss {number(record['train_loss'], 3)}",
            f"up {megabytes(self.up)}",
            f"down {megabytes(self.down)}",
            f"{short(record['clients_per_second'])} clients/s",
        ]
        if self.virtual is not None:
            parts.insert(-1, f"virtual {virtual(self.virtual)}")
        if self.dropped:
            parts.append(f"{self.dropped} dropped")
        left = self._left(record)
        if left is not None:
            parts.append(f"{duration(left)} left")
        return "  ".join(parts)

    def _left(self, record: Record) -> float | None:
        """Seconds still to go, from the speed since the first round shown."""
        todo = self.rounds - record["round"]
        if not todo:
            return None
        if self._begin is None or record["round"] == self.first:
            return todo * record["seconds"]
        elapsed = time.monotonic() - self._begin
        return todo * elapsed / (record["round"] - self.first)
