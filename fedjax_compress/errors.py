"""Errors a user can mend: one line, what was wrong and what would be right."""

from __future__ import annotations

from typing import Any


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one clear line.

    The command line prints the message alone and exits with status 2.
    """


class SpecError(InputError):
    """A specification string does not parse, or names something unknown.

    The message shows the line of the text and a caret under the offending spot.

    Args:
      reason: what is wrong and what would be right, in one line.
      text: the whole specification.
      position: index into ``text`` of the offending character.
    """

    def __init__(self, reason: str, text: str = "", position: int | None = None):
        self.reason = reason
        self.text = text
        self.position = position
        message = reason
        if text and position is not None:
            start = text.rfind("\n", 0, position) + 1
            line = text[start:].partition("\n")[0]
            message = f"{reason}\n  {line}\n  {' ' * (position - start)}^"
        super().__init__(message)


class CheckpointError(InputError):
    """No usable checkpoint, or one that belongs to another configuration."""


class Lost(Exception):
    """A process of the run has ended before the others. The message is one line.

    The command line prints it and exits with ``STATUS``.
    """

    STATUS = 3


class Diverged(Exception):
    """The server's model, or its loss on the test rows, is not finite any more.

    The message is one line.

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
