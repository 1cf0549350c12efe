"""Errors a user can mend: one line, what was wrong and what would be right."""

from __future__ import annotations

from typing import Any

_SHOWN = 100
"""Characters of a long line that are shown on either side of a spot."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one clear line.

    The command line prints the message alone and exits with status 2.
    """


class SpecError(InputError):
    """A specification string does not parse, or names something unknown.

    The message shows the line of the text and a caret under the offending spot.

    Args:
      reason: what is wrong and what would be right, in one line.
      text: the whole specification; of a long line the surroundings are shown.
      position: index into ``text`` of the offending character.
    """

    def __init__(self, reason: str, text: str = "", position: int | None = None):
        self.reason = reason
        self.text = text
        self.position = position
        message = reason
        if text and position is not None:
            start = text.rfind("\n", 0, position) + 1
            line, spot = _around(text[start:].partition("\n")[0], position - start)
            message = f"{reason}\n  {line}\n  {' ' * spot}^"
        super().__init__(message)


def one_line(error: Exception) -> str:
    """What another library says of an error, in one line; or what kind it is."""
    return " ".join(str(error).split()) or type(error).__name__


def _around(line: str, spot: int) -> tuple[str, int]:
    """What is shown of a line, and where the spot is in it."""
    begin = max(0, spot - _SHOWN) if len(line) > 2 * _SHOWN else 0
    before = "..." if begin else ""
    after = "..." if len(line) > begin + 2 * _SHOWN else ""
    shown = line[begin : begin + 2 * _SHOWN]
    return f"{before}{shown}{after}", spot - begin + len(before)


class CheckpointError(InputError):
    """No usable checkpoint, or one that belongs to another configuration."""


class Lost(Exception):
    """A process of the run has ended before the others. The message is one line.

    The command line prints it and exits with ``STATUS``.
    """

    STATUS = 3


class Diverged(Exception):
    """The server's model is not finite, or of no use to anybody. One line says it.

    The command line prints it and exits with ``STATUS``.

    Attributes:
      round: the round after which it would not be, counted from 1.
      state: of the simulation, with the server as it was before that round; None where
        the runner has it in its folder. Client states are those after the round.
      records: of the rounds of this call up to that round, which is in it.
    """

    STATUS = 4

    def __init__(
        self, message: str, round: int, state: Any = None, records: Any = ()
    ) -> None:
        super().__init__(message)
        self.round, self.state, self.records = round, state, list(records)


class WireError(ValueError):
    """Bytes that are not a message of the expected structure."""
