"""What users want to see, or to decide, while a run goes on."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_compress.checks.returned import within
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.build import Parts, current_params
from fedjax_compress.experiment.config import Config
from fedjax_compress.experiment.stopped import StopRun
from fedjax_compress.report.records import Record, clean
from fedjax_compress.simulate import RunState
from fedjax_compress.typing import Params

_METHODS = {"start": 1, "round": 2, "evaluation": 2, "end": 1}
"""What a run calls, with so many arguments."""


class Run(NamedTuple):
    """A run that is about to begin, or to go on.

    Attributes:
      config: its settings, with the layout that the engine has taken.
      folder: where its files are.
      parts: what it is made of.
      records: of the rounds that were finished before; none at its start.
    """

    config: Config
    folder: Path
    parts: Parts
    records: list[Record]

    def params(self, state: RunState) -> Params:
        """The parameters that are evaluated in a state of this run."""
        return current_params(self.parts, state)


class Callback:
    """Methods that a run calls; an object needs only those that it has a use for.

    Of several processes, the first alone calls them. ``round`` and ``evaluation`` may
    raise ``StopRun("why")``: the run then ends after this round (of several in a call,
    the last) with scores, summary and checkpoint, as if it had no more. Another
    exception ends it as it is, with a note which callback it was.
    """

    def start(self, run: Run) -> None:
        """Before the first round, and before the first one after a resume."""

    def round(self, record: Record, state: RunState) -> None:
        """After each round.

        Args:
          record: as in ``metrics.jsonl``; a copy.
          state: after the round; after the last round of a call where one call of the
            program takes several.
        """

    def evaluation(self, record: Record, state: RunState) -> None:
        """After a round with scores, which the record holds; ``round`` comes first."""

    def end(self, summary: dict[str, Any]) -> None:
        """Once everything is written, also of a run that has diverged.

        Not where a signal has stopped it: that run is to go on.
        """


class Callbacks:
    """Calls those of a run, one after the other.

    Attributes:
      stopped: name of the callback that wants an end, and why; None if none does.
    """

    def __init__(self, found: Sequence[Any], active: bool):
        if not isinstance(found, (list, tuple)):
            raise InputError(
                f"callbacks is a list of objects, not {type(found).__name__}"
            )
        for one in found:
            if isinstance(one, type):
                raise InputError(
                    f"callbacks are objects: give {one.__name__}(), not the class"
                )
            if not any(callable(getattr(one, name, None)) for name in _METHODS):
                raise InputError(
                    f"a callback has some of the methods {', '.join(_METHODS)}; "
                    f"{type(one).__name__} has none"
                )
            for name, number in _METHODS.items():
                _check_method(one, name, number)
        self._found = list(found) if active else []
        self.stopped: tuple[str, str] | None = None

    def start(self, run: Run) -> None:
        """Calls ``start`` of all."""
        self._call("start", run)

    def rounds(self, records: list[Record], state: RunState) -> None:
        """Calls ``round`` of all for each record."""
        for record in records:
            self._call("round", record, state)

    def evaluation(self, record: Record, state: RunState) -> None:
        """Calls ``evaluation`` of all if the record has scores."""
        if "test_loss" in record:
            self._call("evaluation", record, state)

    def end(self, summary: dict[str, Any]) -> None:
        """Calls ``end`` of all."""
        self._call("end", summary)

    def _call(self, method: str, first: Any, *rest: Any) -> None:
        for one in self._found:
            name = type(one).__name__
            function = getattr(one, method, None)
            if not callable(function):
                continue
            given = clean(first) if isinstance(first, dict) else first
            try:
                with within(f"{method} of the callback {name}"):
                    function(given, *rest)
            except StopRun as stop:
                if not rest:
                    raise InputError(
                        f"callback {name}: only round and evaluation can stop a run"
                    ) from None
                self.stopped = self.stopped or (name, str(stop) or "no reason given")
            except InputError as error:
                raise InputError(f"callback {name}: {error}") from error


def _check_method(callback: Any, name: str, number: int) -> None:
    """Raises InputError where a method cannot be called with so many arguments."""
    method = getattr(callback, name, None)
    if not callable(method):
        return
    try:
        taken = inspect.signature(method)
    except ValueError:  # of a function that says nothing
        return
    try:
        taken.bind(*[None] * number)
    except TypeError:
        wanted = inspect.signature(getattr(Callback(), name))
        of = type(callback).__name__
        raise InputError(
            f"{name} of the callback {of} is called as {name}"
            f"({', '.join(wanted.parameters)}); it takes {name}"
            f"({', '.join(taken.parameters)})"
        ) from None
