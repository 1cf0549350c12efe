"""Figures of schemes, means over runs with their spread, and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedjax_compress.report import words
from fedjax_compress.report.scores import ACCURACY, Score, of_summary

Figures = dict[str, Any]

_MEASURES = (
    "train_loss", "bytes_up", "bytes_down", "nominal_bytes_up", "nominal_bytes_down",
    "saved_up", "saved_down", "seconds", "clients_per_second", "virtual_seconds",
    "energy_joules", "bytes_to_target", "seconds_to_target",
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


def table(
    rows: list[Figures],
    console: Console,
    score: Score = ACCURACY,
    target: float | None = None,
) -> Table:
    """One row a scheme: what it is, how good it got, what it cost.

    Where the console is too narrow, the specifications are left out, and then, if there
    is virtual time or a target, what they leave no room for.

    Args:
      rows: ``figures_of`` each with a ``name``, and ``pareto`` where a front is marked.
      console: whose width counts.
      score: by what all are judged.
      target: what they are to reach, if rows say what it takes.
    """
    unbounded = console.options.update(width=10_000)
    columns = list(_columns(rows, score, target))
    more = any(name.startswith("time") or " to " in name for name, _, _ in columns)
    for left_out in (0, 1, 2) if more else (0, 1):
        found = Table(box=None, padding=(0, 1), pad_edge=False)
        kept = [c for c in columns if c[1] >= left_out]
        for name, _, _ in kept:
            text = name in _TEXTS
            found.add_column(
                name,
                justify="left" if text else "right",
                no_wrap=not text,
                overflow="fold" if text else "ellipsis",
            )
        for cells in zip(*(c for _, _, c in kept), strict=True):
            found.add_row(*map(Text, cells))
        if Measurement.get(console, unbounded, found).maximum <= console.width:
            break
    return found


_TEXTS = ("", "scheme", "up", "down")


def _columns(
    rows: list[Figures], score: Score, target: float | None
) -> Iterator[tuple[str, int, list[str]]]:
    """Name of each column, how much it matters (0 least, 2 most), and its cells."""
    if "pareto" in rows[0]:
        yield "", 2, ["*" if row["pareto"] else "" for row in rows]
    yield "scheme", 2, [row["name"] for row in rows]
    yield "up", 0, [row["uplink"] for row in rows]
    yield "down", 0, [row["downlink"] for row in rows]

    def cells(name: str, show: Callable[[Any], str]) -> list[str]:
        return [_with_spread(row[name], show) if name in row else "-" for row in rows]

    scores = [_diverged(row) or score.spread(row[score.key]) for row in rows]
    yield score.words, 2, scores
    yield "MB up", 2, cells("bytes_up", words.millions)
    yield "saved", 1, cells("saved_up", words.factor)
    yield "MB down", 2, cells("bytes_down", words.millions)
    yield "saved", 1, cells("saved_down", words.factor)
    timed = any("virtual_seconds" in row for row in rows)
    if timed:
        yield "time", 2, cells("virtual_seconds", words.virtual)
    if target is not None:
        aim = score.tick(target)
        yield f"MB to {aim}", 2, cells("bytes_to_target", words.millions)
        if timed:
            yield f"time to {aim}", 2, cells("seconds_to_target", words.virtual)
    speeds = [words.short(row["clients_per_second"]["mean"]) for row in rows]
    yield "clients/s", 1, speeds


def _diverged(row: Figures) -> str:
    """In words, with how many of the values if not all; empty if none."""
    count, all = row["diverged"], len(row["bytes_up"]["values"])
    if not count:
        return ""
    return "diverged" if count == all else f"{count} of {all} diverged"


def _with_spread(found: Figures, show: Callable[[float], str]) -> str:
    """Mean and spread, the latter only if it shows in the figures of the former."""
    mean, around = found["mean"], found["spread"]
    if mean is None:
        return "-"
    if not around or show(mean) == show(mean + around):
        return show(mean)
    return f"{show(mean)} ± {show(around)}"
