"""Finished runs side by side: one table, one plot, one file of numbers.

The table is that of grids, too: figures are means over runs, with their spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedjax_compress.errors import InputError
from fedjax_compress.report import files, grid_plots, records, words
from fedjax_compress.report.progress import make_console
from fedjax_compress.report.scores import ACCURACY, Score, common, of_summary

Figures = dict[str, Any]
_CURVE = ("bytes_up", "bytes_down", "nominal_bytes_up", "nominal_bytes_down")


class Finished(NamedTuple):
    """One finished run.

    Attributes:
      name: what table and plot call it.
      folder: where it lies.
      summary: its ``summary.json``.
      curve: its evaluated rounds: scores, and the bytes summed up to there.
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
    """The evaluated rounds with all bytes up to each."""
    sums = dict.fromkeys(_CURVE, 0)
    curve = []
    for record in history:
        for name in _CURVE:
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
    folders: list[str | Path], output: str | Path | None = None, *, quiet: bool = False
) -> dict[str, Any]:
    """Table and plot of finished runs; returns what ``compare.json`` holds.

    Args:
      folders: folders of runs, grids or reports; or one.
      output: where plot and numbers go; None makes the next free
        ``runs/report-NNN``.
      quiet: show nothing.

    Raises:
      InputError: a folder without a finished run, no folder, or runs that are judged
        by different metrics.
    """
    if isinstance(folders, (str, Path)):
        folders = [folders]
    if not folders:
        raise InputError("report needs the folder of at least one run")
    runs = find([Path(f) for f in folders])
    score_of(runs)
    if output is None:
        target = files.next_free("report")
    else:
        target = Path(output)
        if target.suffix == ".png" or target.is_file():
            raise InputError(f"output {target} is a file; give a folder")
        files.create(target)
    return publish(runs, target, make_console(quiet))


def publish(runs: list[Finished], folder: Path, console: Console) -> dict[str, Any]:
    """Writes ``compare.json`` and ``compare.png`` and shows the table."""
    score = score_of(runs)
    content = to_json(runs, folder)
    draw_curves(runs, folder, score)
    files.write_json(folder / files.COMPARISON, content)
    rows = [figures_of([run.summary]) | {"name": run.name} for run in runs]
    console.print(table(rows, console, score))
    console.print(f"files: {folder}: {files.COMPARISON}, {files.COMPARISON_PLOT}")
    return content


def score_of(runs: list[Finished]) -> Score:
    """By what all of the runs are judged.

    Raises:
      InputError: they are judged by different metrics.
    """
    return common({run.name: of_summary(run.summary) for run in runs})


def draw_curves(runs: list[Finished], folder: Path, score: Score) -> None:
    """Writes ``compare.png``."""
    lost = {True: ", diverged", False: ""}
    curves = [(r.name + lost["diverged" in r.summary], r.curve) for r in runs]
    grid_plots.draw_curves(curves, folder / files.COMPARISON_PLOT, score)


def to_json(runs: list[Finished], folder: Path) -> dict[str, Any]:
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
                "curve": run.curve,
            }
        )
    return {"schemes": schemes}


_MEASURES = (
    "train_loss", "bytes_up", "bytes_down", "nominal_bytes_up", "nominal_bytes_down",
    "saved_up", "saved_down", "seconds", "clients_per_second",
)  # fmt: skip
"""Figures of a run of which mean and spread are given, beside its scores."""


def figures_of(summaries: list[Figures]) -> Figures:
    """What a row of the table says of the runs of one scheme."""
    first, score = summaries[0], of_summary(summaries[0])
    tested = [name for name in first if name.startswith("test_")]
    return {
        "uplink": first["uplink"],
        "downlink": first["downlink"],
        "metric": score._asdict(),
        "diverged": sum("diverged" in s for s in summaries),
        "stopped": sum("stopped_by" in s for s in summaries),
        **{
            name: spread([s[name] for s in summaries])
            for name in (*tested, *_MEASURES, *score.client_keys, *score.personal_keys)
            if all(name in s for s in summaries)
        },
    }


def spread(values: list[float | None]) -> Figures:
    """Mean, standard deviation (of a sample) and the values; None where unknown."""
    known = [v for v in values if v is not None]
    whole = bool(known) and len(known) == len(values)
    return {
        "mean": statistics.fmean(known) if whole else None,
        "spread": statistics.stdev(known) if whole and len(known) > 1 else None,
        "values": values,
    }


def table(rows: list[Figures], console: Console, score: Score = ACCURACY) -> Table:
    """One row a scheme: what it is, how good it got, what it cost.

    Where the console is too narrow, the specifications are left out.

    Args:
      rows: ``figures_of`` each with a ``name``, and ``pareto`` where a front is marked.
      console: whose width counts.
      score: by what all are judged.
    """
    wide = _table(rows, score, specifications=True)
    unbounded = console.options.update(width=10_000)
    if Measurement.get(console, unbounded, wide).maximum <= console.width:
        return wide
    return _table(rows, score, specifications=False)


def _table(rows: list[Figures], score: Score, specifications: bool) -> Table:
    marked = "pareto" in rows[0]
    found = Table(box=None, padding=(0, 1), pad_edge=False)
    if marked:
        found.add_column("")
    for name in ("scheme", "up", "down") if specifications else ("scheme",):
        found.add_column(name, overflow="fold")
    for name in (score.words, "MB up", "saved", "MB down", "saved", "clients/s"):
        found.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            *(["*" if row["pareto"] else ""] if marked else []),
            row["name"],
            *([row["uplink"], row["downlink"]] if specifications else []),
            _diverged(row) or score.spread(row[score.key]),
            _with_spread(row["bytes_up"], words.millions),
            _with_spread(row["saved_up"], words.factor),
            _with_spread(row["bytes_down"], words.millions),
            _with_spread(row["saved_down"], words.factor),
            words.short(row["clients_per_second"]["mean"]),
        ]
        found.add_row(*[Text(cell) for cell in cells])
    return found


def _diverged(row: Figures) -> str:
    """In words, with how many of the values if not all; empty if none."""
    count, all = row["diverged"], len(row["bytes_up"]["values"])
    if not count:
        return ""
    return "diverged" if count == all else f"{count} of {all} diverged"


def _with_spread(found: Figures, show: Callable[[float], str]) -> str:
    """Mean and spread, the latter only if it shows in the figures of the former."""
    mean, around = found["mean"], found["spread"]
    if mean is None or not around or show(mean) == show(mean + around):
        return show(mean)
    return f"{show(mean)} ± {show(around)}"
