"""Runs a grid, or compares schemes, and goes on where it was stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedjax_compress.data import Dataset
from fedjax_compress.errors import Diverged, InputError
from fedjax_compress.experiment import show
from fedjax_compress.experiment.build import (
    check_data,
    load_data,
    rehearse,
    request_devices,
)
from fedjax_compress.experiment.callbacks import Callback
from fedjax_compress.experiment.components import check_specs, made
from fedjax_compress.experiment.config import (
    Config,
    Role,
    is_object,
    named,
    objects_of,
    recorded,
    with_field,
)
from fedjax_compress.experiment.grid import (
    SCHEMES,
    Grid,
    Job,
    Scheme,
    dump_grid,
    jobs,
    load_grid,
    recorded_grid,
)
from fedjax_compress.experiment.grid_folder import (
    check_folder,
    is_finished,
    publish_grid,
    say_shorter,
)
from fedjax_compress.experiment.resuming import resume
from fedjax_compress.experiment.runner import run
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.registry import nearest
from fedjax_compress.registry.imports import merged
from fedjax_compress.report import axes, files
from fedjax_compress.report.progress import make_console
from fedjax_compress.report.reporting import read_finished
from fedjax_compress.report.scores import Score, common, of_model
from fedjax_compress.runtime import compiling, host


def compare(
    config: Config,
    schemes: tuple[Scheme, ...] = SCHEMES,
    output: str | Path | None = None,
    *,
    axis: str = "bytes",
    target: float | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Compares schemes on the same data, seed and rounds: a grid of one seed.

    Args:
      config: what all schemes have in common, but for what is their own.
      schemes: what to compare.
      output, axis, target, callbacks, quiet: as of ``run_grid``, which gives the rest.
    """
    grid = Grid(config, schemes, (config.seed,))
    how = {"axis": axis, "target": target, "callbacks": callbacks, "quiet": quiet}
    return run_grid(grid, output, **how)  # type: ignore[arg-type]


def run_grid(
    grid: Grid,
    output: str | Path | None = None,
    *,
    only: tuple[str, ...] = (),
    axis: str = "bytes",
    target: float | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs every scheme with every seed; returns what ``grid.json`` holds.

    Each is a run as any other, in a folder of its own. Those that are finished in the
    folder are kept and unfinished ones are resumed, so the same call goes on where it
    was stopped, however it was. One that diverges is marked, and not tried again: to
    do that, resume it by itself, or remove its folder. With more rounds it makes runs
    longer; what is made of the results then leaves out those that have fewer, as with
    ``only``.

    Args:
      grid: what to run.
      output: a folder, new or of the same grid with as many rounds or fewer; None
        makes the next free ``runs/compare-NNN``.
      only: names of the schemes to run now; none: all. What is made of the results
        takes in those that are finished in the folder.
      axis: what plots show scores against, and the front is by: ``bytes``, ``rounds``,
        ``time`` or ``energy``, of which the last two need a clock.
      target: a score; what each run takes to reach it is told: ``bytes_to_target``,
        ``seconds_to_target``.
      callbacks: of every run, one after the other, each of which calls their ``start``.
        A run that one of them ends is finished, and kept as such.
      quiet: show nothing.

    Raises:
      InputError: something cannot work, which is looked for in all runs before one
        begins; no such scheme or axis; or the folder holds something else, such as
        another grid.
      Stopped: SIGTERM or Ctrl-C; what has been done is kept.
    """
    view = axes.view(axis, target)
    found = jobs(grid)
    grid = recorded_grid(grid)
    request_devices(grid.base.devices)
    for job in found:
        with_field(_named(job), check_specs, job.config)
        with_field(_named(job), _check_axis, job.config, view.axis)
    if output is not None:
        check_folder(Path(output), grid, found)
    _check_names(only, grid)
    chosen = [job for job in found if not only or job.scheme in only]
    todo = {job.folder: job for job in chosen if not is_finished(job, output)}
    datasets = _rehearse(list(todo.values()))
    folder = files.next_free("compare") if output is None else Path(output)
    files.create(folder)
    console = make_console(quiet)
    with files.held(folder):
        check_folder(folder, grid, found)  # again: another one may have started
        path = folder / files.GRID
        if not path.is_file() or load_grid(path) != grid:
            files.write_atomically(path, dump_grid(grid))
            for old in (files.GRID_RESULT, files.GRID_PLOT, files.COMPARISON_PLOT):
                (folder / old).unlink(missing_ok=True)  # of fewer rounds
        show.grid(console, grid, folder)
        for number, job in enumerate(chosen, start=1):
            uplink = recorded(job.config).uplink
            title = f"{number}/{len(chosen)} {job.title}: {uplink}"
            console.print(title, style="bold", markup=False, soft_wrap=True)
            if job.folder in todo:
                again = (
                    f"the same compare command with --output {files.quoted(folder)}"
                    if only or view != axes.AS_USUAL
                    else files.resume_command(folder)
                )
                data = datasets[_key(job.config.data)]
                how = callbacks, quiet
                if diverged := _run_job(job, folder, data, how, again):
                    console.print(diverged, markup=False, soft_wrap=True)
                _let_go(job, chosen[number:])
                ended = read_finished(folder / job.folder).summary
                if "stopped_by" in ended:
                    console.print(_outcome(ended), markup=False, soft_wrap=True)
            else:
                found_there = read_finished(folder / job.folder).summary
                console.print(_outcome(found_there))
        run_now = {job.folder for job in chosen}
        done = [j for j in found if j.folder in run_now or is_finished(j, folder)]
        finished = [
            (job, read_finished(folder / job.folder, job.title)) for job in done
        ]
        names, kept = {job.scheme for job in done}, {job.folder for job in done}
        say_shorter(console, [j for j in found if j.folder not in kept], folder)
        shown = grid._replace(schemes=tuple(s for s in grid.schemes if s.name in names))
        console.print()
        return publish_grid(shown, finished, folder, console, view)


def resume_grid(
    folder: str | Path,
    rounds: int | None = None,
    *,
    imports: Sequence[str] = (),
    axis: str = "bytes",
    target: float | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Goes on with the grid in a folder; as ``run_grid`` with the same grid.

    Args:
      folder: where the grid lies.
      rounds: more than the grid has makes its runs longer, but for schemes that have
        a number of rounds of their own; None for those of the grid.
      imports: where files of the same name as the grid's are now, or further ones.
      axis, target, callbacks, quiet: as of ``run_grid``.

    Raises:
      InputError: the folder holds no grid, or one of more rounds.
    """
    path = Path(folder) / files.GRID
    grid = load_grid(path)
    if grid is None:
        raise InputError(f"{path} is not the file of a grid")
    own = [value for scheme in grid.schemes for value in scheme.settings.values()]
    if any(map(is_object, [*vars(grid.base).values(), *own])):
        raise InputError(
            f"{folder} holds a grid with objects that only Python can give again: "
            "call run_grid or compare with the same grid and folder"
        )
    base = dataclasses.replace(
        grid.base,
        rounds=grid.base.rounds if rounds is None else rounds,
        imports=merged(grid.base.imports, imports),
    )
    grid = grid._replace(base=base)
    how = {"axis": axis, "target": target, "callbacks": callbacks, "quiet": quiet}
    return run_grid(grid, folder, **how)  # type: ignore[arg-type]


def _check_axis(config: Config, axis: axes.Axis) -> None:
    """Raises InputError where a run will have nothing for an axis."""
    if not axis.lacks:
        return
    clock = made(config, "clock")
    takes = (clock.network, clock.devices, clock.rows, clock.layers, clock.activity)
    needed = (clock.power,) if axis is axes.ENERGY else takes
    if all(part is None for part in needed):
        raise InputError(
            f"axis {axis.name} needs {axis.lacks}, not clock {recorded(config).clock!r}"
        )


def _check_names(only: tuple[str, ...], grid: Grid) -> None:
    """Raises InputError where a scheme is asked for that the grid does not have."""
    names = [scheme.name for scheme in grid.schemes]
    for name in only:
        if name not in names:
            raise InputError(f"no scheme is named {name!r}; {nearest(name, names)}")


def _named(job: Job) -> str:
    return f"scheme {job.scheme!r}"


def _key(value: Any) -> Any:
    """Equal for equal settings, and for one and the same object."""
    return value if isinstance(value, (str, int)) else id(value)


def _rehearse(found: list[Job]) -> dict[str, Dataset]:
    """The data; everything that can be checked without training has been."""
    datasets: dict[Any, Dataset] = {}
    dealt: set[tuple[Any, ...]] = set()
    rehearsed: dict[str, Score] = {}
    for job in found:
        config = job.config
        if (source := _key(config.data)) not in datasets:
            datasets[source] = with_field(_named(job), load_data, config)
        dataset = datasets[source]
        who = tuple(_key(getattr(config, name)) for name in named(Role.ROWS))
        if who not in dealt:
            with_field(_named(job), check_data, config, dataset)
            dealt.add(who)
        if job.scheme not in rehearsed:
            model = with_field(_named(job), rehearse, config, dataset)
            rehearsed[job.scheme] = of_model(model)
    if rehearsed:
        common(rehearsed)
    return datasets


def _outcome(summary: dict[str, Any]) -> str:
    if "diverged" in summary:
        return f"has diverged in round {summary['diverged']}"
    if "stopped_by" in summary:
        who, why = summary["stopped_by"], summary["stop_reason"]
        return f"was ended by {who} after {summary['rounds']} rounds: {why}"
    return f"is finished: {summary['rounds']} rounds"


def _run_job(
    job: Job,
    folder: Path,
    dataset: Dataset,
    how: tuple[Sequence[Callback], bool],
    again: str,
) -> str:
    """Runs a job, or goes on with it; in words if it has diverged."""
    place = folder / job.folder
    given: Any = dict(zip(("callbacks", "quiet"), how, strict=True))
    given |= {"brief": True, "dataset": dataset}
    try:
        if files.holds_run(place):
            more = {"rounds": job.config.rounds, "imports": job.config.imports}
            resume(place, more, parts=objects_of(job.config), **given)
        else:
            run(job.config, place, **given)
    except Diverged as diverged:
        return str(diverged)
    except Stopped as stopped:
        raise Stopped(stopped.signal, place, stopped.round, again) from None
    return ""


def _let_go(job: Job, rest: Sequence[Job]) -> None:
    """Lets go of what a job has used; of its programs if no seed needs them."""
    if all(other.scheme != job.scheme for other in rest):
        compiling.forget()
    host.give_back()
