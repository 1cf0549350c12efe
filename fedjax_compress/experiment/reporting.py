"""Finished runs side by side: one table, one plot, one file of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedjax_compress.errors import InputError
from fedjax_compress.experiment import files, plots, records, words
from fedjax_compress.experiment.progress import make_console

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
    return Finished(name or folder.name, folder, summary, curve_of(history))


def has_diverged(folder: Path) -> bool:
    """Whether the folder holds a run that has diverged."""
    try:
        return "diverged" in read_finished(folder).summary
    except InputError:
        return False


def curve_of(history: list[records.Record]) -> list[records.Record]:
    """The evaluated rounds with all bytes up to each."""
    sums = dict.fromkeys(_CURVE, 0)
    curve = []
    for record in history:
        for name in _CURVE:
            sums[name] += record[name]
        if record.get("test_accuracy") is not None:
            scores = {k: v for k, v in record.items() if k.startswith("test_")}
            curve.append({"round": record["round"], **scores, **sums})
    return curve


def find(folders: list[Path]) -> list[Finished]:
    """The runs in these folders; a comparison or grid stands for all in it.

    Raises:
      InputError: a folder without a finished run.
    """
    found: list[Finished] = []
    for folder in folders:
        if (folder / files.GRID_RESULT).is_file():
            for scheme in files.read_json(folder / files.GRID_RESULT)["schemes"]:
                for one in scheme["runs"]:
                    name = f"{scheme['name']}, seed {one['seed']}"
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
      folders: folders of runs or of comparisons.
      output: where plot and numbers go; None makes the next free
        ``runs/report-NNN``.
      quiet: show nothing.

    Raises:
      InputError: a folder without a finished run, or no folder.
    """
    if not folders:
        raise InputError("report needs the folder of at least one run")
    runs = find([Path(f) for f in folders])
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
    content = to_json(runs, folder)
    lost = {True: ", diverged", False: ""}
    curves = [(r.name + lost["diverged" in r.summary], r.curve) for r in runs]
    plots.draw_comparison(curves, folder / files.COMPARISON_PLOT)
    files.write_json(folder / files.COMPARISON, content)
    console.print(table(runs, console))
    console.print(f"files: {folder}: {files.COMPARISON}, {files.COMPARISON_PLOT}")
    return content


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


def table(runs: list[Finished], console: Console) -> Table:
    """One row a run: what it is, how good it got, what it cost.

    Where the console is too narrow, the specifications are left out.
    """
    wide = _table(runs, specifications=True)
    unbounded = console.options.update(width=10_000)
    if Measurement.get(console, unbounded, wide).maximum <= console.width:
        return wide
    return _table(runs, specifications=False)


def _table(runs: list[Finished], specifications: bool) -> Table:
    found = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("scheme", "up", "down") if specifications else ("scheme",):
        found.add_column(name, overflow="fold")
    for name in ("accuracy", "MB up", "saved", "MB down", "saved", "clients/s"):
        found.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        s = run.summary
        cells = [
            run.name,
            *([s["uplink"], s["downlink"]] if specifications else []),
            "diverged" if "diverged" in s else words.percent(s["test_accuracy"]),
            words.millions(s["bytes_up"]),
            words.factor(s["saved_up"]),
            words.millions(s["bytes_down"]),
            words.factor(s["saved_down"]),
            words.short(s["clients_per_second"]),
        ]
        found.add_row(*[Text(cell) for cell in cells])
    return found
