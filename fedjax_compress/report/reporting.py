"""Finished runs side by side: one table, one plot, one file of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from fedjax_compress.errors import InputError
from fedjax_compress.report import files, grid_plots, records
from fedjax_compress.report.axes import AS_USUAL, View, view
from fedjax_compress.report.progress import make_console
from fedjax_compress.report.scores import ACCURACY, Score, common, of_summary
from fedjax_compress.report.tables import Figures, figures_of, table

_CURVE = ("bytes_up", "bytes_down", "nominal_bytes_up", "nominal_bytes_down")
_TIMED = ("virtual_seconds", "energy_joules")


class Finished(NamedTuple):
    """One finished run.

    Attributes:
      name: what table and plot call it.
      folder: where it lies.
      summary: its ``summary.json``.
      curve: its evaluated rounds: scores, and bytes, virtual time and energy summed up
        to there.
    """

    name: str
    folder: Path
    summary: dict[str, Any]
    curve: list[records.Record]


def read_finished(folder: Path, name: str = "") -> Finished:
    """Reads a run.

    Raises:
      InputError: the folder holds no finished run.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    if not files.holds_run(folder):
        raise InputError(f"{folder} holds no run")
    if not (folder / files.SUMMARY).is_file():
        raise InputError(
            f"the run in {folder} is not finished; go on with: "
            f"{files.resume_command(folder)}"
        )
    summary = files.read_json(folder / files.SUMMARY)
    history = records.read(folder / files.METRICS)
    if not isinstance(summary, dict) or summary.get("rounds") != len(history):
        raise InputError(f"{folder}: {files.SUMMARY} and {files.METRICS} do not agree")
    curve = curve_of(history, of_summary(summary))
    return Finished(name or folder.name, folder, summary, curve)


def curve_of(
    history: list[records.Record], score: Score = ACCURACY
) -> list[records.Record]:
    """The evaluated rounds with all bytes, virtual time and energy up to each."""
    timed = [name for name in _TIMED if history and name in history[0]]
    sums: dict[str, float] = dict.fromkeys(_CURVE, 0) | dict.fromkeys(timed, 0.0)
    curve = []
    for record in history:
        for name in sums:
            sums[name] += record[name]
        if record.get(score.key) is not None:
            scores = {k: v for k, v in record.items() if k.startswith("test_")}
            curve.append({"round": record["round"], **scores, **sums})
    return curve


def find(folders: list[Path]) -> list[Finished]:
    """The runs in these folders; a grid or an earlier report stands for all in it.

    Raises:
      InputError: a folder without a finished run.
    """
    found: list[Finished] = []
    for folder in folders:
        if (folder / files.GRID_RESULT).is_file():
            for scheme in files.read_json(folder / files.GRID_RESULT)["schemes"]:
                for one in scheme["runs"]:
                    name = scheme["name"]
                    if len(scheme["runs"]) > 1:
                        name += f", seed {one['seed']}"
                    found.append(read_finished(folder / one["folder"], name))
        elif (folder / files.COMPARISON).is_file():
            for scheme in files.read_json(folder / files.COMPARISON)["schemes"]:
                found.append(read_finished(folder / scheme["folder"], scheme["name"]))
        else:
            found.append(read_finished(folder))
    names = [run.name for run in found]
    return [
        run._replace(name=str(run.folder)) if names.count(run.name) > 1 else run
        for run in found
    ]


def report(
    folders: list[str | Path],
    output: str | Path | None = None,
    *,
    axis: str = "bytes",
    target: float | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Table and plot of finished runs; returns what ``compare.json`` holds.

    Args:
      folders: folders of runs, grids or reports; or one.
      output: where plot and numbers go; None makes the next free
        ``runs/report-NNN``.
      axis: what the plot shows scores against: ``bytes``, ``rounds``, ``time`` or
        ``energy``, of which the last two need runs with a clock.
      target: a score; what each run takes to reach it is told: ``bytes_to_target``,
        ``seconds_to_target``.
      quiet: show nothing.

    Raises:
      InputError: a folder without a finished run, no folder, runs that are judged by
        different metrics, no such axis, or a run that has nothing for it.
    """
    how = view(axis, target)
    if isinstance(folders, (str, Path)):
        folders = [folders]
    if not folders:
        raise InputError("report needs the folder of at least one run")
    runs = find([Path(f) for f in folders])
    score_of(runs)
    how.check((run.name, run.summary) for run in runs)
    if output is None:
        folder = files.next_free("report")
    else:
        folder = Path(output)
        if folder.suffix == ".png" or folder.is_file():
            raise InputError(f"output {folder} is a file; give a folder")
        files.create(folder)
    return publish(runs, folder, make_console(quiet), how)


def publish(
    runs: list[Finished], folder: Path, console: Console, how: View = AS_USUAL
) -> dict[str, Any]:
    """Writes ``compare.json`` and ``compare.png`` and shows the table."""
    score = score_of(runs)
    content = to_json(runs, folder, how)
    draw_curves(runs, folder, score, how)
    files.write_json(folder / files.COMPARISON, content)
    rows = [
        figures_of([run.summary | to_target(run, how)]) | {"name": run.name}
        for run in runs
    ]
    console.print(table(rows, console, score, how.target))
    console.print(f"files: {folder}: {files.COMPARISON}, {files.COMPARISON_PLOT}")
    return content


def score_of(runs: list[Finished]) -> Score:
    """By what all of the runs are judged.

    Raises:
      InputError: they are judged by different metrics.
    """
    return common({run.name: of_summary(run.summary) for run in runs})


def to_target(run: Finished, how: View) -> Figures:
    """What a run takes to the target, if there is one."""
    timed = "virtual_seconds" in run.summary
    return how.to_target(run.curve, of_summary(run.summary), timed)


def draw_curves(
    runs: list[Finished], folder: Path, score: Score, how: View = AS_USUAL
) -> None:
    """Writes ``compare.png``."""
    lost = {True: ", diverged", False: ""}
    curves = [(r.name + lost["diverged" in r.summary], r.curve) for r in runs]
    grid_plots.draw_curves(curves, folder / files.COMPARISON_PLOT, score, how.axis)


def to_json(runs: list[Finished], folder: Path, how: View = AS_USUAL) -> dict[str, Any]:
    """Summaries and curves of all runs, folders relative to ``folder``."""
    schemes = []
    for run in runs:
        inside = run.folder.is_relative_to(folder)
        place = run.folder.relative_to(folder) if inside else run.folder.absolute()
        schemes.append(
            {
                "name": run.name,
                "folder": place.as_posix(),
                **run.summary,
                **to_target(run, how),
                "curve": run.curve,
            }
        )
    aim = {} if how.target is None else {"target": how.target}
    return {**aim, "schemes": schemes}
