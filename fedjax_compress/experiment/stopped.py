"""How a run ends early: asked by a signal, or by one of its callbacks."""

from __future__ import annotations

from pathlib import Path

from fedjax_compress.report.files import resume_command


class StopRun(Exception):
    """Raised by a callback to end the run; the message says why.

    It ends after this round, or after the last one of a call that takes several.
    """


class Stopped(Exception):
    """A signal ended the run early; everything is saved.

    Attributes:
      signal: the name of the signal, such as SIGTERM.
      folder: where the run lies.
      round: rounds finished and saved.

    The message says how to go on: ``resume``, or the ``command`` given.
    """

    def __init__(self, name: str, folder: Path, finished: int, command: str = ""):
        self.signal, self.folder, self.round = name, folder, finished
        command = command or resume_command(folder)
        super().__init__(
            f"stopped by {name} after round {finished}, everything is saved; "
            f"go on with: {command}"
        )
