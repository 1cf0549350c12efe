"""Goes on with the run in a folder, or takes out what it has learned."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import loop, saving, show
from fedjax_compress.experiment.build import build, laid_out, request_devices
from fedjax_compress.experiment.callbacks import Callbacks
from fedjax_compress.experiment.config import (
    SPECS,
    Config,
    Role,
    difference,
    is_object,
    named,
    recorded,
    validate,
)
from fedjax_compress.experiment.loop import Summary
from fedjax_compress.experiment.runner import everything
from fedjax_compress.experiment.toml import dump_toml, load_toml
from fedjax_compress.registry import imports
from fedjax_compress.report import files
from fedjax_compress.report.progress import make_console
from fedjax_compress.runtime import distributed
from fedjax_compress.typing import Model, Params


def resume(
    folder: str | Path,
    changes: dict[str, Any] | None = None,
    *,
    parts: dict[str, Any] | None = None,
    quiet: bool = False,
    brief: bool = False,
    dataset: Dataset | None = None,
    callbacks: Sequence[Any] = (),
) -> Summary:
    """Goes on with a run from its newest usable checkpoint, bit for bit.

    On another number of devices or processes it goes on equal to rounding.

    Args:
      folder: where the run lies.
      changes: settings as given once more; they must equal the run's, except for a
        larger number of ``rounds``, any number of ``devices``, and ``imports``: where
        files of the same name are now, or further ones.
      parts: the objects that the run was given in the place of SPECs, by the names of
        the settings. They are not compared with those: the program of a round is.
      quiet: show nothing.
      brief: show progress only, without what comes before and after.
      dataset: the data, if they have been loaded already.
      callbacks: objects that are told of rounds and scores, and may end the run; see
        ``Callback``.

    Raises:
      InputError: no run in the folder, or a setting that differs.
      CheckpointError: no usable checkpoint, or one of another configuration.
      Diverged: the server's model is not usable any more; the folder has the records
        up to there and the last checkpoint before, and a summary that says so.
      Stopped: SIGTERM or Ctrl-C; the run is saved and can be resumed.
    """
    folder = Path(folder)
    if (folder / files.COMPARISON).is_file():
        raise InputError(
            f"{folder} holds a report, or a comparison of an earlier version, which "
            "cannot go on; compare again, into another folder"
        )
    if not (folder / files.CONFIG).is_file():
        raise InputError(f"{folder} holds no run: there is no {files.CONFIG} in it")
    number = (changes or {}).get("devices")
    if number is None:
        number = load_toml(folder / files.CONFIG).devices
    request_devices(number)
    link = distributed.link()
    told = Callbacks(callbacks, link.leads)
    with contextlib.ExitStack() as stack:
        link.lead(lambda: bool(stack.enter_context(_held(folder))))
        return _resume(folder, changes or {}, parts or {}, quiet, brief, dataset, told)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    with files.held(folder):
        yield True


def _resume(
    folder: Path,
    changes: dict[str, Any],
    objects: dict[str, Any],
    quiet: bool,
    brief: bool,
    dataset: Dataset | None,
    told: Callbacks,
) -> Summary:
    old = load_toml(folder / files.CONFIG)
    given = with_objects(old, objects, folder)
    given = _changed(old, given, changes, folder, _ended_early(folder) or old.rounds)
    config = recorded(given)
    link = distributed.link()
    console = make_console(quiet or not link.leads)
    asked = changes.get("rounds", 0)
    if summary := link.lead(lambda: _finished(config, folder, asked)):
        why = ", stopped by {stopped_by}: {stop_reason}" if _early(summary) else ""
        text = f"{folder} is finished: {summary['rounds']} rounds"
        console.print(text + why.format(**summary), markup=False, soft_wrap=True)
        if not brief:
            show.summary(console, summary, folder)
        return summary
    parts = build(given, dataset)
    state = parts.simulator.start(parts.params)
    # Other devices may have room for fewer lanes; the run's own are kept on record.
    config = dataclasses.replace(laid_out(config, parts), lanes=old.lanes)
    link.same(everything(config, parts), "settings or data")
    state, before = loop.restore(config, parts, state, folder)
    if link.leads:
        if config != old:
            files.write_atomically(folder / files.CONFIG, dump_toml(config))
        (folder / files.SUMMARY).unlink(missing_ok=True)
    if not brief:
        show.header(console, config, parts, folder)
    console.print(f"going on after round {state.round}")
    _compare_imports(before.get("versions", {}), folder)
    now = saving.where(config)
    if any(before.get(name, value) != value for name, value in now.items()):
        console.print(
            f"note: from {_devices(before)} to {_devices(now)}: the rounds to come are "
            "equal to rounding, not bit for bit"
        )
    return loop.go_on(config, parts, state, folder, console, brief, told, before)


def _early(summary: Summary) -> bool:
    """Whether a callback has ended the run."""
    return "stopped_by" in summary


def _finished(config: Config, folder: Path, asked: int) -> Summary | None:
    """The summary, if it is whole and of as many rounds as are wanted.

    Those are what a callback has let it have, unless more are asked for. A run that
    diverged is tried again: its code may have been mended.
    """
    try:
        summary: Summary = files.read_json(folder / files.SUMMARY)
        rounds = summary["rounds"]
        whole = rounds == config.rounds or (_early(summary) and asked <= rounds)
        return summary if whole and "diverged" not in summary else None
    except (InputError, TypeError, KeyError):
        return None


def _ended_early(folder: Path) -> int:
    """The rounds of a run that a callback has ended; 0 of any other."""
    try:
        summary = files.read_json(folder / files.SUMMARY)
        return int(summary["rounds"]) if _early(summary) else 0
    except (InputError, TypeError, KeyError):
        return 0


def with_objects(old: Config, objects: dict[str, Any], folder: Path) -> Config:
    """The configuration of a run with the objects that it was given.

    Raises:
      InputError: one lacks, or is none of the run's.
    """
    wanted = [name for name in SPECS if is_object(getattr(old, name))]
    for name in (n for n in objects if n not in wanted):
        raise InputError(
            f"{folder} was not given an object for {name!r}; leave it out of parts"
        )
    if any(name not in objects for name in wanted):
        names = ", ".join(f"{name!r}: ..." for name in wanted)
        raise InputError(
            f"{folder} was given objects that only Python can give again: "
            f"experiment.resume({str(folder)!r}, parts={{{names}}})"
        )
    return dataclasses.replace(old, **objects)


def _changed(
    old: Config, given: Config, changes: dict[str, Any], folder: Path, rounds: int
) -> Config:
    """The run's configuration with more rounds, on other devices, with moved imports.

    Nothing else may change. The run has ended, or is to end, after ``rounds``.
    """
    files_now = imports.merged(old.imports, changes.get("imports", ()))
    new = dataclasses.replace(given, **changes | {"imports": files_now})
    validate(new)
    if other := difference(recorded(new), old, named(Role.RESUME)):
        raise InputError(
            f"{folder} was run with other settings: {other}; only rounds can be "
            "raised and devices changed, for anything else start a new run"
        )
    if new.rounds < rounds:
        raise InputError(
            f"{folder} is a run of {rounds} rounds; rounds can only be raised, "
            f"not lowered to {new.rounds}"
        )
    return new


def _compare_imports(before: dict[str, str], folder: Path) -> None:
    """Warns where an imported file has changed since the newest checkpoint."""
    for name, now in imports.digests().items():
        if before.get(name, now) != now:
            warnings.warn(
                f"{name} is not the file that {folder} was run with so far: its "
                f"SHA-256 was {before[name][:8]}, now {now[:8]}",
                saving.ProgramWarning,
                stacklevel=2,
            )


def _devices(where: dict[str, Any]) -> str:
    devices, processes = where["devices"], where["processes"]
    text = f"{devices} device{'s' if devices > 1 else ''}"
    return text if processes == 1 else f"{text} of {processes} processes"


def trained(
    folder: str | Path,
    dataset: Dataset | None = None,
    parts: dict[str, Any] | None = None,
    client: int | None = None,
) -> tuple[Model, Params]:
    """The network of a run, and its parameters in the newest checkpoint.

    Those that are evaluated: with masks applied, where the algorithm has some.

    Args:
      folder: where the run lies; nothing in it is changed.
      dataset: the data, if they have been loaded already.
      parts: the objects that the run was given, as of ``resume``.
      client: whose, where clients keep networks of their own; its id.

    Raises:
      InputError: no run in the folder; a client where none has a network of its own, or
        none, or one that is not there, where they have.
      CheckpointError: no usable checkpoint.
    """
    folder = Path(folder)
    if not files.holds_run(folder):
        raise InputError(f"{folder} holds no run")
    config = with_objects(load_toml(folder / files.CONFIG), parts or {}, folder)
    request_devices(config.devices)
    made = build(config, dataset)
    start = made.simulator.start(made.params)
    state, _ = loop.restore(recorded(config), made, start, folder)
    algorithm = made.algorithm
    model, params = algorithm.network(state.server)
    clients = made.simulator.clients
    if (client is not None) != (algorithm.judged is not None):
        words = "keep no networks of their own; leave client out"
        if client is None:
            words = f"keep networks of their own; give client, 0 to {clients - 1}"
        raise InputError(f"clients of {recorded(config).algorithm} {words}")
    if client is None:
        return model or made.model, params
    if not 0 <= client < clients:
        raise InputError(f"client must be from 0 to {clients - 1}, not {client}")
    states = made.simulator.client_states(state, np.array([client]))
    assert algorithm.personal is not None
    assert algorithm.judged is not None
    own = algorithm.personal(params, jax.tree.map(lambda x: x[0], states))
    return algorithm.judged, own
