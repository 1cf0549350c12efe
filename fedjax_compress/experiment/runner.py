"""Runs a configuration: rounds, evaluations, records, checkpoints, summary."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fedjax_compress.clients import Dataset
from fedjax_compress.errors import CheckpointError, InputError
from fedjax_compress.experiment import files, records, show
from fedjax_compress.experiment.build import Parts, build, fingerprint, request_devices
from fedjax_compress.experiment.config import Config, difference, validate
from fedjax_compress.experiment.progress import Progress, make_console
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.experiment.summary import summarize
from fedjax_compress.experiment.toml import dump_toml, load_toml
from fedjax_compress.simulate import Checkpoints, RunState, Stop

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
    if output is not None:
        files.check_free(Path(output))
    parts = build(config, dataset)
    state = parts.simulator.start(parts.params)
    if output is None:
        folder = files.next_free(files.plain_name(parts.dataset.name))
    else:
        folder = Path(output)
        files.create(folder)
    with files.held(folder):
        files.check_free(folder)  # again: another one may have started meanwhile
        config = dataclasses.replace(config, lanes=parts.simulator.lanes)
        files.write_atomically(folder / files.CONFIG, dump_toml(config))
        console = make_console(quiet)
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

    Args:
      folder: where the run lies.
      changes: settings as given once more; they must equal the run's, except for a
        larger number of ``rounds``.
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
    with files.held(folder):
        return _resume(folder, changes or {}, quiet, brief, dataset)


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
    console = make_console(quiet)
    if summary := _finished(config, folder):
        console.print(f"{folder} is finished: {summary['rounds']} rounds")
        if not brief:
            show.summary(console, summary, folder)
        return summary
    parts = build(config, dataset)
    state = parts.simulator.start(parts.params)
    state = _restore(config, parts, state, folder)
    if config != old:
        files.write_atomically(folder / files.CONFIG, dump_toml(config))
    (folder / files.SUMMARY).unlink(missing_ok=True)
    if not brief:
        show.header(console, config, parts, folder)
    console.print(f"going on after round {state.round}")
    return _go_on(config, parts, state, folder, console, brief)


def _finished(config: Config, folder: Path) -> Summary | None:
    """The summary, if it is whole and of as many rounds as are wanted."""
    try:
        summary: Summary = files.read_json(folder / files.SUMMARY)
        return summary if summary["rounds"] == config.rounds else None
    except (InputError, TypeError, KeyError):
        return None


def _changed(old: Config, changes: dict[str, Any], folder: Path) -> Config:
    """The run's configuration with more rounds, if nothing else is to change."""
    new = dataclasses.replace(old, **changes)
    validate(new)
    if other := difference(new, old, ignore=("rounds",)):
        raise InputError(
            f"{folder} was run with other settings: {other}; only rounds can be "
            "raised, for anything else start a new run"
        )
    if new.rounds < old.rounds:
        raise InputError(
            f"{folder} is a run of {old.rounds} rounds; rounds can only be raised, "
            f"not lowered to {new.rounds}"
        )
    return new


def _checkpoints(config: Config, parts: Parts, folder: Path) -> Checkpoints:
    found = fingerprint(config, parts)
    return Checkpoints(folder / files.CHECKPOINTS, found, keep=config.keep)


def _restore(config: Config, parts: Parts, start: RunState, folder: Path) -> RunState:
    """The newest saved state; the start, if the run ended before it saved anything."""
    checkpoints = _checkpoints(config, parts, folder)
    metrics = folder / files.METRICS
    if not checkpoints.rounds():
        if metrics.exists() and records.read(metrics):
            raise CheckpointError(
                f"{folder} has no usable checkpoint to go on from; "
                "start a new run in another folder"
            )
        return start
    like = parts.simulator.snapshot(start)
    finished, saved, _ = checkpoints.restore(like)
    return parts.simulator.place(saved, finished)


def _go_on(
    config: Config,
    parts: Parts,
    state: RunState,
    folder: Path,
    console: Console,
    brief: bool,
) -> Summary:
    """Runs what is left, from a state that is or will be the newest checkpoint."""
    checkpoints = _checkpoints(config, parts, folder)
    with (
        records.Writer(folder / files.METRICS, after=state.round) as metrics,
        Progress(console, config.rounds, metrics.records, brief) as progress,
        Stop() as stop,
    ):
        saved = state.round
        if state.round == 0:
            checkpoints.save(0, parts.simulator.snapshot(state), {})
        while state.round < config.rounds and not stop:
            state, fresh = parts.simulator.advance(state, _step(config, state.round))
            if not metrics.records:
                checkpoints.wait()  # no line without a checkpoint to go back to
            if state.round % config.evaluate_every == 0 or state.round == config.rounds:
                params = parts.algorithm.params(state.server)
                fresh[-1].update(parts.evaluate(params))
            for record in fresh:
                metrics.append(record)
                progress.update(metrics.records[-1])
            if state.round % config.checkpoint_every == 0:
                metrics.sync()
                checkpoints.save(state.round, parts.simulator.snapshot(state), {})
                saved = state.round
        if saved != state.round:
            metrics.sync()
            checkpoints.save(state.round, parts.simulator.snapshot(state), {})
        checkpoints.wait()
        stopped = bool(stop) and state.round < config.rounds
        history = metrics.records
    if stopped:
        raise Stopped(stop.name, folder, state.round)
    params = jax.device_get(parts.algorithm.params(state.server))
    summary = _finish(config, parts, params, history, folder)
    if not brief:
        show.summary(console, summary, folder)
    return summary


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
