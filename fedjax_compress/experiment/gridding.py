"""Runs a grid, or compares schemes, and goes on where it was stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fedjax_compress.clients import Dataset
from fedjax_compress.errors import Diverged, InputError
from fedjax_compress.experiment import files, show
from fedjax_compress.experiment.build import (
    check_data,
    left_open,
    load_data,
    rehearse,
    request_devices,
)
from fedjax_compress.experiment.components import check_specs
from fedjax_compress.experiment.config import (
    Config,
    Role,
    difference,
    named,
    with_field,
)
from fedjax_compress.experiment.grid import (
    SCHEMES,
    Grid,
    Job,
    Scheme,
    dump_grid,
    grid_difference,
    jobs,
    lengthened,
    load_grid,
)
from fedjax_compress.experiment.grid_report import publish_grid
from fedjax_compress.experiment.progress import make_console
from fedjax_compress.experiment.reporting import read_finished
from fedjax_compress.experiment.runner import resume, run
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.experiment.toml import load_toml
from fedjax_compress.imports import merged
from fedjax_compress.registry import nearest


def compare(
    config: Config,
    schemes: tuple[Scheme, ...] = SCHEMES,
    output: str | Path | None = None,
    *,
    quiet: bool = False,
) -> dict[str, Any]:
    """Compares schemes on the same data, seed and rounds: a grid of one seed.

    Args:
      config: what all schemes have in common, but for what is their own.
      schemes: what to compare.
      output, quiet: as of ``run_grid``, which gives the rest.
    """
    return run_grid(Grid(config, schemes, (config.seed,)), output, quiet=quiet)


def run_grid(
    grid: Grid,
    output: str | Path | None = None,
    *,
    only: tuple[str, ...] = (),
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
      quiet: show nothing.

    Raises:
      InputError: something cannot work, which is looked for in all runs before one
        begins; no such scheme; or the folder holds something else, such as another
        grid.
      Stopped: SIGTERM or Ctrl-C; what has been done is kept.
    """
    found = jobs(grid)
    request_devices(grid.base.devices)
    for job in found:
        with_field(_named(job), check_specs, job.config)
    if output is not None:
        _check_folder(Path(output), grid, found)
    _check_names(only, grid)
    chosen = [job for job in found if not only or job.scheme in only]
    todo = [job for job in chosen if not _is_finished(job, output)]
    datasets = _rehearse(todo)
    folder = files.next_free("compare") if output is None else Path(output)
    files.create(folder)
    console = make_console(quiet)
    with files.held(folder):
        _check_folder(folder, grid, found)  # again: another one may have started
        path = folder / files.GRID
        if not path.is_file() or load_grid(path) != grid:
            files.write_atomically(path, dump_grid(grid))
            for old in (files.GRID_RESULT, files.GRID_PLOT, files.COMPARISON_PLOT):
                (folder / old).unlink(missing_ok=True)  # of fewer rounds
        _introduce(console, grid, folder)
        for number, job in enumerate(chosen, start=1):
            title = f"{number}/{len(chosen)} {_title(job)}: {job.config.uplink}"
            console.print(title, style="bold", markup=False, soft_wrap=True)
            if job in todo:
                again = (
                    f"the same compare command with --output {files.quoted(folder)}"
                    if only
                    else files.resume_command(folder)
                )
                data = datasets[job.config.data]
                if diverged := _run_job(job, folder, data, quiet, again):
                    console.print(diverged, markup=False, soft_wrap=True)
            else:
                found_there = read_finished(folder / job.folder).summary
                console.print(_outcome(found_there))
        done = [job for job in found if job in chosen or _is_finished(job, folder)]
        finished = [
            (job, read_finished(folder / job.folder, _title(job))) for job in done
        ]
        names = {job.scheme for job in done}
        _say_shorter(console, [job for job in found if job not in done], folder)
        shown = grid._replace(schemes=tuple(s for s in grid.schemes if s.name in names))
        console.print()
        return publish_grid(shown, finished, folder, console)


def resume_grid(
    folder: str | Path,
    rounds: int | None = None,
    *,
    imports: Sequence[str] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Goes on with the grid in a folder; as ``run_grid`` with the same grid.

    Args:
      folder: where the grid lies.
      rounds: more than the grid has makes its runs longer, but for schemes that have
        a number of rounds of their own; None for those of the grid.
      imports: where files of the same name as the grid's are now, or further ones.
      quiet: show nothing.

    Raises:
      InputError: the folder holds no grid, or one of more rounds.
    """
    path = Path(folder) / files.GRID
    grid = load_grid(path)
    if grid is None:
        raise InputError(f"{path} is not the file of a grid")
    base = dataclasses.replace(
        grid.base,
        rounds=grid.base.rounds if rounds is None else rounds,
        imports=merged(grid.base.imports, imports),
    )
    return run_grid(grid._replace(base=base), folder, quiet=quiet)


def _check_names(only: tuple[str, ...], grid: Grid) -> None:
    """Raises InputError where a scheme is asked for that the grid does not have."""
    names = [scheme.name for scheme in grid.schemes]
    for name in only:
        if name not in names:
            raise InputError(f"no scheme is named {name!r}; {nearest(name, names)}")


def _named(job: Job) -> str:
    return f"scheme {job.scheme!r}"


def _title(job: Job) -> str:
    return f"{job.scheme}, seed {job.config.seed}"


def _is_finished(job: Job, folder: str | Path | None) -> bool:
    """Whether the run of a job lies there, whole, or up to where it diverged."""
    if folder is None:
        return False
    try:
        run = read_finished(Path(folder) / job.folder)
    except InputError:
        return False
    summary = run.summary
    return "diverged" in summary or bool(summary["rounds"] == job.config.rounds)


def _rehearse(found: list[Job]) -> dict[str, Dataset]:
    """The data; everything that can be checked without training has been."""
    datasets: dict[str, Dataset] = {}
    dealt: set[tuple[Any, ...]] = set()
    rehearsed: set[str] = set()
    for job in found:
        config = job.config
        if config.data not in datasets:
            datasets[config.data] = with_field(_named(job), load_data, config)
        dataset = datasets[config.data]
        who = tuple(getattr(config, name) for name in named(Role.ROWS))
        if who not in dealt:
            with_field(_named(job), check_data, config, dataset)
            dealt.add(who)
        if job.scheme not in rehearsed:
            with_field(_named(job), rehearse, config, dataset)
            rehearsed.add(job.scheme)
    return datasets


def _say_shorter(console: Console, left_out: list[Job], folder: Path) -> None:
    """Names the runs that are finished with fewer rounds than the grid has by now."""
    for job in left_out:
        try:
            rounds = read_finished(folder / job.folder).summary["rounds"]
        except InputError:
            continue
        text = f"left out: {_title(job)} has {rounds} of {job.config.rounds} rounds"
        console.print(text, markup=False, soft_wrap=True)


def _outcome(summary: dict[str, Any]) -> str:
    if "diverged" in summary:
        return f"has diverged in round {summary['diverged']}"
    return f"is finished: {summary['rounds']} rounds"


def _run_job(job: Job, folder: Path, dataset: Dataset, quiet: bool, again: str) -> str:
    """Runs a job, or goes on with it; in words if it has diverged."""
    place = folder / job.folder
    try:
        if files.holds_run(place):
            more = {"rounds": job.config.rounds, "imports": job.config.imports}
            resume(place, more, quiet=quiet, brief=True, dataset=dataset)
        else:
            run(job.config, place, quiet=quiet, brief=True, dataset=dataset)
    except Diverged as diverged:
        return str(diverged)
    except Stopped as stopped:
        raise Stopped(stopped.signal, place, stopped.round, again) from None
    return ""


def _introduce(console: Console, grid: Grid, folder: Path) -> None:
    """What all runs have in common."""
    base, count = grid.base, len(grid.seeds)
    own = {name for scheme in grid.schemes for name in scheme.settings}

    def common(name: str) -> str:
        return f"{getattr(base, name)}{' unless a scheme says' if name in own else ''}"

    size = f"{len(grid.schemes)} schemes, {count} seed{'s' if count > 1 else ''} each"
    rounds = f"{common('rounds')}, {base.cohort} clients each"
    show.lines(
        console,
        [
            ("grid", size),
            ("data", f"{common('data')}, {common('partition')}"),
            ("model", common("model")),
            ("local", common("local")),
            ("rounds", rounds),
            ("output", str(folder)),
        ],
    )


def _check_folder(folder: Path, grid: Grid, found: list[Job]) -> None:
    """Raises InputError where the folder holds something else than this grid."""
    if folder == Path():
        raise InputError("output is empty; give the name of a folder")
    if folder.is_file():
        raise InputError(f"output {folder} is a file; give a folder")
    if files.holds_run(folder) or (folder / files.COMPARISON).exists():
        raise InputError(
            f"{folder} already holds a run or a comparison; give another folder with "
            "--output"
        )
    if (folder / files.GRID).is_file():
        before = load_grid(folder / files.GRID)
        same = None if before is None else lengthened(before, grid)
        changed = "" if same is None else grid_difference(grid, same)
        if changed and before is not None and lengthened(grid, before) == before:
            raise InputError(
                f"{folder} holds this grid with more rounds; they can only be raised: "
                f"{changed}"
            )
        if before is None or changed:
            raise InputError(
                f"{folder} holds another grid: {changed or 'it cannot be read'}; give "
                "another folder with --output"
            )
    for job in found:
        if files.holds_run((folder / job.folder).parent):
            raise InputError(
                f"{folder} holds a comparison of an earlier version, which cannot go "
                "on; give another folder with --output"
            )
        _check_run(folder / job.folder, job.config)


def _check_run(place: Path, config: Config) -> None:
    """Raises InputError where a folder holds a run with other settings."""
    if not (place / files.CONFIG).is_file():
        return
    found = load_toml(place / files.CONFIG)
    if found.rounds < config.rounds:
        found = dataclasses.replace(found, rounds=config.rounds)  # it will be resumed
    if other := difference(config, found, left_open(config)):
        raise InputError(
            f"{place} holds a run with other settings: {other}; give another folder "
            "with --output"
        )
