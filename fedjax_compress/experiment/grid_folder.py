"""What lies in the folder of a grid, and whether it belongs there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from fedjax_compress.errors import InputError
from fedjax_compress.experiment.build import left_open
from fedjax_compress.experiment.config import Config, difference, recorded
from fedjax_compress.experiment.grid import (
    Grid,
    Job,
    grid_difference,
    lengthened,
    load_grid,
)
from fedjax_compress.experiment.toml import load_toml
from fedjax_compress.report import files
from fedjax_compress.report.reporting import read_finished


def is_finished(job: Job, folder: str | Path | None) -> bool:
    """Whether the run of a job lies there, whole, or up to where it diverged."""
    if folder is None:
        return False
    try:
        run = read_finished(Path(folder) / job.folder)
    except InputError:
        return False
    summary = run.summary
    return "diverged" in summary or bool(summary["rounds"] == job.config.rounds)


def check_folder(folder: Path, grid: Grid, found: list[Job]) -> None:
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
        _check_run(folder / job.folder, recorded(job.config))


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


def say_shorter(console: Console, left_out: list[Job], folder: Path) -> None:
    """Names the runs that are finished with fewer rounds than the grid has by now."""
    for job in left_out:
        try:
            rounds = read_finished(folder / job.folder).summary["rounds"]
        except InputError:
            continue
        text = f"left out: {job.title} has {rounds} of {job.config.rounds} rounds"
        console.print(text, markup=False, soft_wrap=True)
