"""The rounds of a run, with evaluations, records and checkpoints between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fedjax_compress.errors import CheckpointError
from fedjax_compress.experiment import files, records, show
from fedjax_compress.experiment.build import Parts, fingerprint
from fedjax_compress.experiment.config import Config
from fedjax_compress.experiment.progress import Progress
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.experiment.summary import summarize
from fedjax_compress.simulate import Checkpoints, RunState, Stop, distributed
from fedjax_compress.simulate.link import Link

Summary = dict[str, Any]


def where(config: Config) -> dict[str, int]:
    """What the order of sums depends on, beside the configuration."""
    return {"devices": config.devices, "processes": distributed.processes()}


def _checkpoints(config: Config, parts: Parts, folder: Path) -> Checkpoints:
    found, place = fingerprint(config, parts), folder / files.CHECKPOINTS
    return Checkpoints(place, found, keep=config.keep, link=distributed.link())


def restore(
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


def go_on(
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
        checkpoints.save(state.round, simulator.snapshot(state), where(config))
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
