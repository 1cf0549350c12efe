"""Runs a configuration: rounds, evaluations, records, checkpoints, summary."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fedjax_compress.clients import Dataset
from fedjax_compress.errors import CheckpointError, InputError
from fedjax_compress.experiment import files, records, show
from fedjax_compress.experiment.build import (
    Parts,
    build,
    fingerprint,
    laid_out,
    request_devices,
)
from fedjax_compress.experiment.config import Config, difference, validate
from fedjax_compress.experiment.progress import Progress, make_console
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.experiment.summary import summarize
from fedjax_compress.experiment.toml import dump_toml, load_toml
from fedjax_compress.simulate import Checkpoints, RunState, Stop, distributed
from fedjax_compress.simulate.link import Link

Summary = dict[str, Any]


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
        return _go_on(config, parts, state, folder, console, brief)


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
    request_devices(config.devices)
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
    state, before = _restore(config, parts, state, folder)
    if link.leads:
        if config != old:
            files.write_atomically(folder / files.CONFIG, dump_toml(config))
        (folder / files.SUMMARY).unlink(missing_ok=True)
    if not brief:
        show.header(console, config, parts, folder)
    console.print(f"going on after round {state.round}")
    if before not in ({}, now := _where(config)):
        console.print(
            f"note: from {_devices(before)} to {_devices(now)}: the rounds to come are "
            "equal to rounding, not bit for bit"
        )
    return _go_on(config, parts, state, folder, console, brief)


def _finished(config: Config, folder: Path) -> Summary | None:
    """The summary, if it is whole and of as many rounds as are wanted."""
    try:
        summary: Summary = files.read_json(folder / files.SUMMARY)
        return summary if summary["rounds"] == config.rounds else None
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


def _where(config: Config) -> dict[str, int]:
    """What the order of sums depends on, beside the configuration."""
    return {"devices": config.devices, "processes": distributed.processes()}


def _devices(where: dict[str, int]) -> str:
    devices, processes = where["devices"], where["processes"]
    text = f"{devices} device{'s' if devices > 1 else ''}"
    return text if processes == 1 else f"{text} of {processes} processes"


def _checkpoints(config: Config, parts: Parts, folder: Path) -> Checkpoints:
    found, place = fingerprint(config, parts), folder / files.CHECKPOINTS
    return Checkpoints(place, found, keep=config.keep, link=distributed.link())


def _restore(
    config: Config, parts: Parts, start: RunState, folder: Path
) -> tuple[RunState, dict[str, int]]:
    """The newest saved state and where it was computed.

    The start, if the run ended before it saved anything.
    """
    checkpoints, metrics = _checkpoints(config, parts, folder), folder / files.METRICS

    def is_new() -> bool:
        if checkpoints.rounds():
            return False
        if metrics.exists() and records.read(metrics):
            raise CheckpointError(
                f"{folder} has no usable checkpoint to go on from; "
                "start a new run in another folder"
            )
        return True

    if distributed.link().lead(is_new):
        return start, {}
    finished, saved, before = checkpoints.restore(parts.simulator.expected(start))
    return parts.simulator.place(saved, finished), before


def _go_on(
    config: Config,
    parts: Parts,
    state: RunState,
    folder: Path,
    console: Console,
    brief: bool,
) -> Summary:
    """Runs what is left, from a state that is or will be the newest checkpoint."""
    link, path = distributed.link(), folder / files.METRICS
    link.hint = f"go on, with all processes, with: {files.resume_command(folder)}"
    with (
        _opened(path, state.round) as metrics,
        Progress(console, config.rounds, metrics.records, brief) as progress,
        Stop() as stop,
    ):
        try:
            state = _rounds(config, parts, state, folder, metrics, progress, stop)
        except jax.errors.JaxRuntimeError:
            link.blame()
            raise
        history = metrics.records
    if state.round < config.rounds:
        raise Stopped(stop.name, folder, state.round)
    server = parts.simulator.placement.local(state.server)
    params = jax.device_get(parts.algorithm.params(server))
    summary = link.lead(lambda: _finish(config, parts, params, history, folder))
    if not brief:
        show.summary(console, summary, folder)
    return summary


def _rounds(
    config: Config,
    parts: Parts,
    state: RunState,
    folder: Path,
    metrics: records.Writer | records.Memory,
    progress: Progress,
    stop: Stop,
) -> RunState:
    """Rounds, with all that is due between them, until the last or a stop."""
    checkpoints, simulator = _checkpoints(config, parts, folder), parts.simulator
    link, saved = distributed.link(), state.round

    def save() -> int:
        metrics.sync()
        checkpoints.save(state.round, simulator.snapshot(state), _where(config))
        return state.round

    if state.round == 0:
        save()
    while state.round < config.rounds and not _stopped(stop, link):
        state, fresh = simulator.advance(state, _step(config, state.round))
        if state.round == len(fresh):
            checkpoints.wait()  # no line without a checkpoint to go back to
        if link.leads and _evaluates(config, state.round):
            server = simulator.placement.local(state.server)
            fresh[-1].update(parts.evaluate(parts.algorithm.params(server)))
        for record in fresh:
            metrics.append(record)
            progress.update(metrics.records[-1])
        if state.round % config.checkpoint_every == 0:
            saved = save()
    if saved != state.round:
        save()
    checkpoints.wait()
    return state


def _opened(path: Path, after: int) -> records.Writer | records.Memory:
    """The records; only process 0 writes them."""
    opened: list[records.Writer] = []
    distributed.link().lead(lambda: opened.append(records.Writer(path, after)))
    return opened[0] if opened else records.Memory()


def _stopped(stop: Stop, link: Link) -> bool:
    """Whether any process was asked to stop; the others wait here for a slow one."""
    names = link.agree(stop.name)
    if name := next((n for n in names if n), ""):
        stop.request(name)
    return bool(name)


def _evaluates(config: Config, finished: int) -> bool:
    return finished % config.evaluate_every == 0 or finished == config.rounds


def _step(config: Config, finished: int) -> int:
    """Rounds until something else than a round is due."""
    due = [config.rounds - finished]
    for every in (config.evaluate_every, config.checkpoint_every):
        due.append(every - finished % every)
    return min(*due, config.rounds_per_call)


def _finish(
    config: Config,
    parts: Parts,
    params: Any,
    history: list[records.Record],
    folder: Path,
) -> Summary:
    """Writes summary and plot."""
    from fedjax_compress.experiment import plots

    summary = summarize(config, history, parts, params)
    plots.draw_run(history, summary, folder / files.PLOT)
    files.write_json(folder / files.SUMMARY, summary)
    return summary
