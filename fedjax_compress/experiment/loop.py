"""The rounds of a run, with evaluations, records and checkpoints between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fedjax_compress.errors import CheckpointError, Diverged
from fedjax_compress.experiment import files, records, show
from fedjax_compress.experiment.build import Parts
from fedjax_compress.experiment.config import Config
from fedjax_compress.experiment.judging import Judge
from fedjax_compress.experiment.progress import Progress
from fedjax_compress.experiment.saving import Saver, checkpoints_of
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.experiment.summary import summarize
from fedjax_compress.simulate import RunState, Stop, distributed
from fedjax_compress.simulate.link import Link

Summary = dict[str, Any]


def restore(
    config: Config, parts: Parts, start: RunState, folder: Path
) -> tuple[RunState, dict[str, Any]]:
    """The newest saved state, and what is known of the start that has saved it.

    The start, if the run ended before it saved anything.
    """
    checkpoints, metrics = checkpoints_of(config, parts, folder), folder / files.METRICS

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
    before: dict[str, Any] | None = None,
) -> Summary:
    """Runs what is left, from a state that is or will be the newest checkpoint.

    Args:
      before: what the checkpoint says of the start that has written it.

    Raises:
      Diverged: the server's model is lost; records, a summary that says so, and the
        checkpoints before it are in the folder.
      Stopped: as asked by a signal.
    """
    link, path = distributed.link(), folder / files.METRICS
    link.hint = f"go on, with all processes, with: {files.resume_command(folder)}"
    with (
        _opened(path, state.round) as metrics,
        Progress(console, config.rounds, metrics.records, brief) as progress,
        Stop() as stop,
    ):
        try:
            last = state.round or -1
            saver = Saver(config, parts, folder, before or {}, metrics.sync, last)
            state, lost = _rounds(config, parts, state, saver, metrics, progress, stop)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            link.blame(error)
            raise
        history = metrics.records
    if not lost and state.round < config.rounds:
        raise Stopped(stop.name, folder, state.round)
    server = parts.simulator.placement.local(state.server)
    params = jax.device_get(parts.algorithm.params(server))
    summary = link.lead(lambda: _finish(config, parts, params, history, folder))
    if lost:
        raise saver.diverged(lost)
    if not brief:
        show.summary(console, summary, folder)
    return summary


def _rounds(
    config: Config,
    parts: Parts,
    state: RunState,
    saver: Saver,
    metrics: records.Writer | records.Memory,
    progress: Progress,
    stop: Stop,
) -> tuple[RunState, int]:
    """Rounds, with all that is due between them, until the last, a stop or the round
    after which the server's model is lost; its number, or 0."""
    simulator, link, lost = parts.simulator, distributed.link(), 0
    judge = Judge(config, parts)
    if state.round == 0:
        saver.save(state)
    while state.round < config.rounds and not lost and not _stopped(stop, link):
        begun = state.round
        try:
            state, fresh = simulator.advance(state, _step(config, begun))
        except Diverged as diverged:
            state, fresh = diverged.state, diverged.records
        lost = fresh[-1]["round"] if fresh[-1].get("diverged") else 0
        saver.compare(simulator.identity())
        if begun == 0:
            saver.wait()  # no line without a checkpoint to go back to
        if not lost:
            lost = judge(state, fresh[-1])
        for record in fresh:
            metrics.append(record)
            progress.update(metrics.records[-1])
        if not lost and state.round % config.checkpoint_every == 0:
            saver.save(state)
    if not lost or saver.is_whole(state, lost):
        saver.save(state)
    saver.wait()
    return state, lost


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
