"""What a run saves, and whether it is still the run that was saved."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from fedjax_compress.errors import Diverged
from fedjax_compress.experiment.build import Parts
from fedjax_compress.experiment.config import Config
from fedjax_compress.experiment.fingerprint import fingerprint, versions
from fedjax_compress.report import files
from fedjax_compress.runtime import Checkpoints, distributed
from fedjax_compress.simulate import RunState

_PROGRAMS, _VERSIONS = "programs", "versions"


class ProgramWarning(UserWarning):
    """A run goes on with another program than before; the message is one line."""


def where(config: Config) -> dict[str, int]:
    """What the order of sums depends on, beside the configuration."""
    return {"devices": config.devices, "processes": distributed.processes()}


def checkpoints_of(config: Config, parts: Parts, folder: Path) -> Checkpoints:
    """The checkpoints of a run in its folder."""
    found, place = fingerprint(config, parts), folder / files.CHECKPOINTS
    return Checkpoints(place, found, keep=config.keep, link=distributed.link())


class Saver:
    """Saves the states of a run, with what it was computed by.

    Args:
      config, parts, folder: of the run.
      before: what the checkpoint says that the run goes on from; {} at its start.
      sync: waits until the records are on the disk.
      saved: round of the checkpoint that the run goes on from; -1 at its start.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        folder: Path,
        before: dict[str, Any],
        sync: Callable[[], None],
        saved: int,
    ):
        self.config, self.parts, self.folder = config, parts, folder
        self._checkpoints, self._sync = checkpoints_of(config, parts, folder), sync
        self._before = before
        self._known: dict[str, str] = dict(before.get(_PROGRAMS, {}))
        self._saved = saved

    def save(self, state: RunState) -> None:
        """Saves a state, unless it has just been."""
        if self._saved == state.round:
            return
        self._sync()
        simulator = self.parts.simulator
        about = {
            **where(self.config),
            _PROGRAMS: self._known | simulator.identity(),
            _VERSIONS: versions(),
        }
        self._checkpoints.save(state.round, simulator.snapshot(state), about)
        self._saved = state.round

    def wait(self) -> None:
        """Returns when what was saved is on the disk."""
        self._checkpoints.wait()

    def compare(self, programs: dict[str, str]) -> None:
        """Warns, once, where a program is not the one known from before."""
        changed = [
            n for n, text in programs.items() if self._known.get(n, text) != text
        ]
        self._known |= programs
        if not changed:
            return
        what = "the sampling" if changed == ["sampling"] else "the program of a round"
        was, now = self._before.get(_VERSIONS, {}), versions()
        here = {n: now.get(n, "absent") for n in was}
        newer = [f"{n} was {was[n]}, now {here[n]}" for n in was if was[n] != here[n]]
        reason = ", ".join(newer) or "code that it is made of has changed"
        warnings.warn(
            f"{what} is not the one that {self.folder} was run with so far: {reason}; "
            "the rounds to come are not those that it would have had",
            ProgramWarning,
            stacklevel=2,
        )

    def is_whole(self, state: RunState, lost: int) -> bool:
        """Whether the state before the round in which the model was lost is all there.

        Client states are as that round has left them; and of a model that is finite
        but of no use, the one before is gone. All processes come to the same.
        """
        resident = self.parts.simulator.resident
        stateless = resident and not jax.tree.leaves(state.store)
        return stateless and state.round == lost - 1

    def diverged(self, number: int) -> Diverged:
        """What to raise when the model was lost in a round."""
        kept = self._checkpoints.rounds()[-1]
        return Diverged(
            f"diverged: the server's model is not usable after round {number}, its "
            f"numbers are not finite or too large to compute with; {self.folder} has "
            f"the records, and the model after round {kept}; try a smaller lr, of the "
            "server or the clients, in a new run",
            number,
        )
