"""The rounds of a run, with evaluations, records and checkpoints between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.console import Console

from fedjax_compress.errors import CheckpointError, Diverged
from fedjax_compress.experiment import show
from fedjax_compress.experiment.build import Parts, current_params
from fedjax_compress.experiment.callbacks import Callbacks, Run
from fedjax_compress.experiment.config import Config
from fedjax_compress.experiment.judging import Judge
from fedjax_compress.experiment.saving import Saver, checkpoints_of
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.experiment.summary import summarize
from fedjax_compress.report import files, records
from fedjax_compress.report.progress import Progress
from fedjax_compress.report.scores import of_model
from fedjax_compress.runtime import Stop, distributed
from fedjax_compress.runtime.meeting import Link
from fedjax_compress.simulate import RunState
from fedjax_compress.simulate.readings import Timed

if TYPE_CHECKING:
    from fedjax_compress.report.round_plot import Bars

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
    told: Callbacks,
    before: dict[str, Any] | None = None,
) -> Summary:
    """Runs what is left, from a state that is or will be the newest checkpoint.

    Args:
      told: the callbacks.
      before: what the checkpoint says of the start that has written it.

    Raises:
      Diverged: the server's model is lost; records, a summary that says so, and the
        checkpoints before it are in the folder.
      Stopped: as asked by a signal.
    """
    link, path = distributed.link(), folder / files.METRICS
    score = of_model(parts.model)
    link.hint = f"go on, with all processes, with: {files.resume_command(folder)}"
    with (
        _opened(path, state.round) as metrics,
        Progress(console, config.rounds, metrics.records, brief, score) as progress,
        Stop() as stop,
    ):
        try:
            last = state.round or -1
            saver = Saver(config, parts, folder, before or {}, metrics.sync, last)
            told.start(Run(config, folder, parts, list(metrics.records)))
            state, lost = _rounds(
                config, parts, state, saver, metrics, progress, stop, told
            )
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            link.blame(error)
            raise
        history = metrics.records
    early = told.stopped if state.round < config.rounds else None
    if not lost and not early and state.round < config.rounds:
        raise Stopped(stop.name, folder, state.round)
    params = jax.device_get(current_params(parts, state))
    kept = _kept(parts, state)
    summary = link.lead(
        lambda: _finish(config, parts, params, kept, history, folder, early)
    )
    told.end(summary)
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
    told: Callbacks,
) -> tuple[RunState, int]:
    """Rounds, with all that is due between them, until the last, a stop or the round
    after which the server's model is lost; its number, or 0."""
    simulator, link, lost = parts.simulator, distributed.link(), 0
    judge = Judge(config, parts)
    if state.round == 0:
        saver.save(state)
    while state.round < config.rounds and not lost and not _ends(stop, told, link):
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
        told.rounds(fresh, state)
        if simulator.ends and (
            failed := [r["round"] for r in fresh if r.get("failed")]
        ):
            why = f"too few clients had reported by the deadline of round {failed[0]}"
            told.stopped = told.stopped or ("the clock", why)
        if told.stopped and not lost:
            judge.score(state, fresh[-1])
        told.evaluation(fresh[-1], state)
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


def _ends(stop: Stop, told: Callbacks, link: Link) -> bool:
    """Whether any process was asked to stop, or a callback of the first one wants it.

    The others wait here for a slow one.
    """
    asked = link.agree([stop.name, told.stopped])
    if name := next((n for n, _ in asked if n), ""):
        stop.request(name)
    told.stopped = asked[0][1]
    return bool(name or told.stopped)


def _step(config: Config, finished: int) -> int:
    """Rounds until something else than a round is due."""
    due = [config.rounds - finished]
    for every in (config.evaluate_every, config.checkpoint_every):
        due.append(every - finished % every)
    return min(*due, config.rounds_per_call)


def _kept(parts: Parts, state: Any) -> Any:
    """What clients keep, where the networks that are judged are theirs; else ()."""
    if parts.algorithm.judged is None:
        return ()
    simulator = parts.simulator
    return simulator.client_states(state, np.arange(simulator.clients))


def _finish(
    config: Config,
    parts: Parts,
    params: Any,
    kept: Any,
    history: list[records.Record],
    folder: Path,
    early: tuple[str, str] | None,
) -> Summary:
    """Writes summary and plot; ``early``: which callback has ended the run, and why."""
    from fedjax_compress.report import plots, round_plot

    summary = summarize(config, history, parts, params, kept)
    if early:
        summary |= {"stopped_by": early[0], "stop_reason": early[1]}
    plots.draw_run(history, summary, folder / files.PLOT)
    simulator, path = parts.simulator, folder / files.ROUND_PLOT
    if (timed := simulator.timed) is not None and timed.spans.total.any():
        activity = simulator.watch.timer.clock.activity if simulator.watch else None
        bars = _bars(timed, activity is not None and activity.pauses)
        round_plot.draw_round(history[-1]["round"], bars, path)
    files.write_json(folder / files.SUMMARY, summary)
    return summary


def _bars(timed: Timed, pauses: bool) -> Bars:
    """The clients of a round as they are drawn; ``pauses``: their work may pause."""
    from fedjax_compress.report.round_plot import Bars

    plan, lost = timed.plan, timed.plan.choice.lost
    seconds = timed.figures["virtual_seconds"] - plan.waited
    end = seconds if plan.staleness is None else None
    download, compute, upload = timed.spans
    upload = upload * ~lost
    late = ~plan.choice.arrived & ~lost
    return Bars(plan.ids, download, compute, upload, end, late, lost, pauses)
