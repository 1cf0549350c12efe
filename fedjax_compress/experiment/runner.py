"""Starts a run in a folder, or goes on with one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedjax_compress.clients import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import files, loop, saving, show
from fedjax_compress.experiment.build import (
    Parts,
    build,
    laid_out,
    request_devices,
)
from fedjax_compress.experiment.config import Config, difference, validate
from fedjax_compress.experiment.fingerprint import fingerprint
from fedjax_compress.experiment.loop import Summary
from fedjax_compress.experiment.progress import make_console
from fedjax_compress.experiment.toml import dump_toml, load_toml
from fedjax_compress.simulate import distributed


def run(
    config: Config,
    output: str | Path | None = None,
    *,
    quiet: bool = False,
    brief: bool = False,
    dataset: Dataset | None = None,
) -> Summary:
    """Runs a configuration into a folder and returns its summary.

    Args:
      config: what to run.
      output: a folder that holds no run yet; None makes the next free
        ``runs/DATA-NNN``.
      quiet: show nothing.
      brief: show progress only, without what comes before and after.
      dataset: the data, if they have been loaded already.

    Raises:
      InputError: something cannot work; raised before anything compiles, and the
        folder is left as it was.
      Diverged: the server's model is not usable any more; the folder has the records
        up to there and the last checkpoint before, and a summary that says so.
      Stopped: SIGTERM or Ctrl-C; the run is saved and can be resumed.
    """
    validate(config)
    request_devices(config.devices)
    link = distributed.link()
    console = make_console(quiet or not link.leads)
    if output is not None:
        link.lead(lambda: files.check_free(Path(output)))
    parts = build(config, dataset, console.print)
    state = parts.simulator.start(parts.params)
    config = laid_out(config, parts)
    link.same(_everything(config, parts), "settings or data")
    with contextlib.ExitStack() as stack:

        def begin() -> str:
            if output is None:
                folder = files.next_free(files.plain_name(parts.dataset.name))
            else:
                folder = Path(output)
                files.create(folder)
            stack.enter_context(files.held(folder))
            files.check_free(folder)  # again: another one may have started meanwhile
            files.write_atomically(folder / files.CONFIG, dump_toml(config))
            return str(folder)

        folder = Path(link.lead(begin))
        files.check_shared(folder)
        if not brief:
            show.header(console, config, parts, folder)
        return loop.go_on(config, parts, state, folder, console, brief)


def resume(
    folder: str | Path,
    changes: dict[str, Any] | None = None,
    *,
    quiet: bool = False,
    brief: bool = False,
    dataset: Dataset | None = None,
) -> Summary:
    """Goes on with a run from its newest usable checkpoint, bit for bit.

    On another number of devices or processes it goes on equal to rounding.

    Args:
      folder: where the run lies.
      changes: settings as given once more; they must equal the run's, except for a
        larger number of ``rounds`` and any number of ``devices``.
      quiet: show nothing.
      brief: show progress only, without what comes before and after.
      dataset: the data, if they have been loaded already.

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
            f"{folder} holds a comparison; give the same compare command again with "
            f"--output {files.quoted(folder)}"
        )
    if not (folder / files.CONFIG).is_file():
        raise InputError(f"{folder} holds no run: there is no {files.CONFIG} in it")
    number = (changes or {}).get("devices")
    if number is None:
        number = load_toml(folder / files.CONFIG).devices
    request_devices(number)
    link = distributed.link()
    with contextlib.ExitStack() as stack:
        link.lead(lambda: bool(stack.enter_context(_held(folder))))
        return _resume(folder, changes or {}, quiet, brief, dataset)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    with files.held(folder):
        yield True


def _resume(
    folder: Path,
    changes: dict[str, Any],
    quiet: bool,
    brief: bool,
    dataset: Dataset | None,
) -> Summary:
    old = load_toml(folder / files.CONFIG)
    config = _changed(old, changes, folder)
    link = distributed.link()
    console = make_console(quiet or not link.leads)
    if summary := link.lead(lambda: _finished(config, folder)):
        console.print(f"{folder} is finished: {summary['rounds']} rounds")
        if not brief:
            show.summary(console, summary, folder)
        return summary
    parts = build(config, dataset)
    state = parts.simulator.start(parts.params)
    # Other devices may have room for fewer lanes; the run's own are kept on record.
    config = dataclasses.replace(laid_out(config, parts), lanes=old.lanes)
    link.same(_everything(config, parts), "settings or data")
    state, before = loop.restore(config, parts, state, folder)
    if link.leads:
        if config != old:
            files.write_atomically(folder / files.CONFIG, dump_toml(config))
        (folder / files.SUMMARY).unlink(missing_ok=True)
    if not brief:
        show.header(console, config, parts, folder)
    console.print(f"going on after round {state.round}")
    now = saving.where(config)
    if any(before.get(name, value) != value for name, value in now.items()):
        console.print(
            f"note: from {_devices(before)} to {_devices(now)}: the rounds to come are "
            "equal to rounding, not bit for bit"
        )
    return loop.go_on(config, parts, state, folder, console, brief, before)


def _finished(config: Config, folder: Path) -> Summary | None:
    """The summary, if it is whole and of as many rounds as are wanted.

    A run that diverged is tried again: its code may have been mended.
    """
    try:
        summary: Summary = files.read_json(folder / files.SUMMARY)
        whole = summary["rounds"] == config.rounds and "diverged" not in summary
        return summary if whole else None
    except (InputError, TypeError, KeyError):
        return None


def _changed(old: Config, changes: dict[str, Any], folder: Path) -> Config:
    """The run's configuration with more rounds or on other devices, nothing else."""
    new = dataclasses.replace(old, **changes)
    validate(new)
    if other := difference(new, old, ignore=("rounds", "devices", "tune")):
        raise InputError(
            f"{folder} was run with other settings: {other}; only rounds can be "
            "raised and devices changed, for anything else start a new run"
        )
    if new.rounds < old.rounds:
        raise InputError(
            f"{folder} is a run of {old.rounds} rounds; rounds can only be raised, "
            f"not lowered to {new.rounds}"
        )
    return new


def _everything(config: Config, parts: Parts) -> dict[str, Any]:
    return fingerprint(config, parts) | dataclasses.asdict(config)


def _devices(where: dict[str, Any]) -> str:
    devices, processes = where["devices"], where["processes"]
    text = f"{devices} device{'s' if devices > 1 else ''}"
    return text if processes == 1 else f"{text} of {processes} processes"
