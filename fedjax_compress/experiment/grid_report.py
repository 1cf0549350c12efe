"""The outcome of a grid: means and spreads over seeds, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fedjax_compress.experiment.grid import Grid, Job
from fedjax_compress.report import files, grid_plots
from fedjax_compress.report.reporting import (
    Figures,
    Finished,
    draw_curves,
    figures_of,
    score_of,
    spread,
    table,
)


def publish_grid(
    grid: Grid, runs: list[tuple[Job, Finished]], folder: Path, console: Console
) -> Figures:
    """Writes ``grid.json`` and ``grid.png`` and shows the table.

    A grid of one seed gets the curves of its runs as well, in ``compare.png``.
    """
    one, score = len(grid.seeds) == 1, score_of([run for _, run in runs])
    content = to_json(grid, runs)
    grid_plots.draw_grid(content["schemes"], folder / files.GRID_PLOT, score)
    if one:
        named = [run._replace(name=job.scheme) for job, run in runs]
        draw_curves(named, folder, score)
    files.write_json(folder / files.GRID_RESULT, content)
    console.print(table(content["schemes"], console, score))
    names = [files.GRID_RESULT, files.GRID_PLOT, *([files.COMPARISON_PLOT] * one)]
    best = [scheme["name"] for scheme in content["schemes"] if scheme["pareto"]]
    lines = [
        "one seed, so no spread"
        if one
        else f"± is the standard deviation over {len(grid.seeds)} seeds",
        f"on the Pareto front (*): {', '.join(best)}",
        f"files: {folder}: {', '.join(names)}",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    return content


def to_json(grid: Grid, runs: list[tuple[Job, Finished]]) -> Figures:
    """All figures: of each scheme, and of each of its runs.

    ``megabytes`` is what travelled both ways, in 10^6 bytes, over all rounds; a scheme
    is on the front if no other sends as little and has as good a score, by their means.
    ``diverged`` is how many of its runs have; such a scheme has no score, and is on no
    front.
    """
    score = score_of([run for _, run in runs])
    schemes: list[Figures] = []
    for scheme in grid.schemes:
        own = [(job, run) for job, run in runs if job.scheme == scheme.name]
        config = own[0][0].config
        summaries = [run.summary for _, run in own]
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
                        **run.summary,
                        "curve": run.curve,
                    }
                    for job, run in own
                ],
            }
        )
    points: list[tuple[float, float]] = []
    whole = [found for found in schemes if not found["diverged"]]
    for found in whole:
        worth = score.worth(found[score.key]["mean"])
        points.append((found["megabytes"]["mean"], worth))
    best = {id(f) for f, b in zip(whole, front(points), strict=True) if b}
    for found in schemes:
        found["pareto"] = id(found) in best
    return {"seeds": list(grid.seeds), "schemes": schemes}


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
