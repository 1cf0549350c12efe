"""What a grid leaves in its folder: runs, means and spreads over seeds, the plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

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
from fedjax_compress.report import files, grid_plots
from fedjax_compress.report.axes import AS_USUAL, BYTES, View
from fedjax_compress.report.reporting import (
    Finished,
    draw_curves,
    read_finished,
    score_of,
    to_target,
)
from fedjax_compress.report.tables import Figures, figures_of, spread, table


def is_finished(job: Job, folder: str | Path | None) -> bool:
    """Whether a job lies there, whole, or up to where it diverged or was ended."""
    if folder is None:
        return False
    try:
        run = read_finished(Path(folder) / job.folder)
    except InputError:
        return False
    summary = run.summary
    if "stopped_by" in summary:  # by a callback, of as many rounds as are wanted now
        return load_toml(run.folder / files.CONFIG).rounds == job.config.rounds
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


def publish_grid(
    grid: Grid,
    runs: list[tuple[Job, Finished]],
    folder: Path,
    console: Console,
    how: View = AS_USUAL,
) -> Figures:
    """Writes ``grid.json`` and ``grid.png`` and shows the table.

    A grid of one seed gets the curves of its runs as well, in ``compare.png``.
    """
    one, score = len(grid.seeds) == 1, score_of([run for _, run in runs])
    how.check((job.title, run.summary) for job, run in runs)
    content = to_json(grid, runs, how)
    schemes, plot = content["schemes"], folder / files.GRID_PLOT
    grid_plots.draw_grid(schemes, plot, score, how.axis)
    if one:
        named = [run._replace(name=job.scheme) for job, run in runs]
        draw_curves(named, folder, score, how)
    files.write_json(folder / files.GRID_RESULT, content)
    console.print(table(schemes, console, score, how.target))
    names = [files.GRID_RESULT, files.GRID_PLOT, *([files.COMPARISON_PLOT] * one)]
    best = [scheme["name"] for scheme in schemes if scheme["pareto"]]
    of = "" if how.axis is BYTES else f" of {score.words} against {how.axis.title}"
    lines = [
        "one seed, so no spread"
        if one
        else f"± is the standard deviation over {len(grid.seeds)} seeds",
        f"on the Pareto front{of} (*): {', '.join(best)}",
        f"files: {folder}: {', '.join(names)}",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    return content


def to_json(
    grid: Grid, runs: list[tuple[Job, Finished]], how: View = AS_USUAL
) -> Figures:
    """All figures: of each scheme, and of each of its runs.

    ``megabytes`` is what travelled both ways, in 10^6 bytes, over all rounds; a scheme
    is on the front if no other sends as little (or takes as little of what the axis
    shows) and has as good a score, by their means.
    ``diverged`` is how many of its runs have; such a scheme has no score, and is on no
    front.
    """
    score = score_of([run for _, run in runs])
    schemes: list[Figures] = []
    for scheme in grid.schemes:
        own = [(job, run) for job, run in runs if job.scheme == scheme.name]
        config = own[0][0].config
        summaries = [run.summary | to_target(run, how) for _, run in own]
        totals = [(s["bytes_up"] + s["bytes_down"]) / 1e6 for s in summaries]
        schemes.append(
            {
                "name": scheme.name,
                "settings": scheme.settings,
                "rounds": config.rounds,
                "megabytes": spread(totals),
                **figures_of(summaries),
                "runs": [
                    {
                        "seed": job.config.seed,
                        "folder": job.folder,
                        **summary,
                        "curve": run.curve,
                    }
                    for (job, run), summary in zip(own, summaries, strict=True)
                ],
            }
        )
    points: list[tuple[float, float]] = []
    whole = [found for found in schemes if not found["diverged"]]
    for found in whole:
        worth = score.worth(found[score.key]["mean"])
        cost = spread([how.axis.amount(one) for one in found["runs"]])["mean"]
        points.append((cost, worth))
    best = {id(f) for f, b in zip(whole, front(points), strict=True) if b}
    for found in schemes:
        found["pareto"] = id(found) in best
    aim = {} if how.target is None else {"target": how.target}
    head = {"seeds": list(grid.seeds), "axis": how.axis.name, **aim}
    return {**head, "schemes": schemes}


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point lies on the Pareto front.

    A point is off the front if another one costs no more and is worth no less, and
    differs from it. Equal points share their place.

    Args:
      points: (cost, worth) of each; lower costs and higher worths are better.
    """

    def beats(other: tuple[float, float], point: tuple[float, float]) -> bool:
        return other != point and other[0] <= point[0] and other[1] >= point[1]

    return [not any(beats(other, point) for other in points) for point in points]
