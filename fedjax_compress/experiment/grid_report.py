"""The outcome of a grid: means and spreads over seeds, and the Pareto front."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedjax_compress.experiment import files, grid_plots, pareto, words
from fedjax_compress.experiment.grid import Grid, Job
from fedjax_compress.experiment.reporting import Finished

Figures = dict[str, Any]
MEASURES = (
    "test_accuracy", "test_loss", "train_loss", "bytes_up", "bytes_down",
    "nominal_bytes_up", "nominal_bytes_down", "saved_up", "saved_down",
    "client_accuracy_mean", "client_accuracy_p10", "seconds", "clients_per_second",
)  # fmt: skip
"""Figures of a run of which a grid gives mean and spread, where the runs have them."""


def publish_grid(
    grid: Grid, runs: list[tuple[Job, Finished]], folder: Path, console: Console
) -> Figures:
    """Writes ``grid.json`` and ``grid.png`` and shows the table."""
    content = to_json(grid, runs)
    grid_plots.draw_grid(content["schemes"], folder / files.GRID_PLOT)
    files.write_json(folder / files.GRID_RESULT, content)
    console.print(table(content["schemes"], console))
    best = [scheme["name"] for scheme in content["schemes"] if scheme["pareto"]]
    lines = [
        f"± is the standard deviation over {len(grid.seeds)} seeds"
        if len(grid.seeds) > 1
        else "one seed, so no spread",
        f"on the Pareto front (*): {', '.join(best)}",
        f"files: {folder}: {files.GRID_RESULT}, {files.GRID_PLOT}",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    return content


def to_json(grid: Grid, runs: list[tuple[Job, Finished]]) -> Figures:
    """All figures: of each scheme, and of each of its runs.

    ``megabytes`` is what travelled both ways, in 10^6 bytes, over all rounds; a scheme
    is on the front if no other sends as little and is as accurate, by their means.
    ``diverged`` is how many of its runs have; such a scheme has no accuracy, and is on
    no front.
    """
    schemes: list[Figures] = []
    for scheme in grid.schemes:
        own = [(job, run) for job, run in runs if job.scheme == scheme.name]
        config = own[0][0].config
        summaries = [run.summary for _, run in own]
        totals = [(s["bytes_up"] + s["bytes_down"]) / 1e6 for s in summaries]
        schemes.append(
            {
                "name": scheme.name,
                "uplink": config.uplink,
                "downlink": config.downlink,
                "settings": scheme.settings,
                "rounds": config.rounds,
                "megabytes": spread(totals),
                "diverged": sum("diverged" in s for s in summaries),
                **{
                    name: spread([s[name] for s in summaries])
                    for name in MEASURES
                    if all(name in s for s in summaries)
                },
                "runs": [
                    {
                        "seed": job.config.seed,
                        "folder": job.folder,
                        **run.summary,
                        "curve": run.curve,
                    }
                    for job, run in own
                ],
            }
        )
    points = []
    whole = [found for found in schemes if not found["diverged"]]
    for found in whole:
        worth = found["test_accuracy"]["mean"]
        points.append((found["megabytes"]["mean"], -1.0 if worth is None else worth))
    best = {id(f) for f, b in zip(whole, pareto.front(points), strict=True) if b}
    for found in schemes:
        found["pareto"] = id(found) in best
    return {"seeds": list(grid.seeds), "schemes": schemes}


def spread(values: list[float | None]) -> Figures:
    """Mean, standard deviation (of a sample) and the values; None where unknown."""
    known = [v for v in values if v is not None]
    whole = bool(known) and len(known) == len(values)
    return {
        "mean": statistics.fmean(known) if whole else None,
        "spread": statistics.stdev(known) if whole and len(known) > 1 else None,
        "values": values,
    }


def table(schemes: list[Figures], console: Console) -> Table:
    """One row a scheme; without the specifications where the console is narrow."""
    wide = _table(schemes, specifications=True)
    unbounded = console.options.update(width=10_000)
    if Measurement.get(console, unbounded, wide).maximum <= console.width:
        return wide
    return _table(schemes, specifications=False)


def _table(schemes: list[Figures], specifications: bool) -> Table:
    found = Table(box=None, padding=(0, 1), pad_edge=False)
    found.add_column("")
    for name in ("scheme", "up", "down") if specifications else ("scheme",):
        found.add_column(name, overflow="fold")
    for name in ("accuracy", "MB up", "saved", "MB down", "saved"):
        found.add_column(name, justify="right", no_wrap=True)
    for s in schemes:
        cells = [
            "*" if s["pareto"] else "",
            s["name"],
            *([s["uplink"], s["downlink"]] if specifications else []),
            accuracy(s["test_accuracy"]) if not s["diverged"] else _diverged(s),
            _with_spread(s["bytes_up"], words.millions),
            _with_spread(s["saved_up"], words.factor),
            _with_spread(s["bytes_down"], words.millions),
            _with_spread(s["saved_down"], words.factor),
        ]
        found.add_row(*[Text(cell) for cell in cells])
    return found


def accuracy(found: Figures) -> str:
    """Mean and spread as a percentage."""
    mean, around = found["mean"], found["spread"]
    if mean is None or around is None:
        return words.percent(mean)
    return f"{100 * mean:.1f} ± {100 * around:.1f} %"


def _diverged(scheme: Figures) -> str:
    """In words, with how many of the runs if not all."""
    count, all = scheme["diverged"], len(scheme["runs"])
    return "diverged" if count == all else f"{count} of {all} diverged"


def _with_spread(found: Figures, show: Any) -> str:
    """Mean and spread, the latter only if it shows in the figures of the former."""
    mean, around = found["mean"], found["spread"]
    if mean is None or not around or show(mean) == show(mean + around):
        return str(show(mean))
    return f"{show(mean)} ± {show(around)}"
