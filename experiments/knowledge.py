"""Tables and pictures of the small protocols of FedGKT and Fed-ET.

Command::

    python experiments/knowledge.py fedgkt2020 runs/fedgkt
    python experiments/knowledge.py fed_et2022 runs/fed_et

reads the runs that ``fedjax-compress compare`` has left there and writes
``results.json``, ``results.md`` and ``results.png`` into the experiment's folder. A
run's score is the mean of its last three evaluations.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedjax_compress.report.plots import PALETTE, new_figure, save, style

HERE = Path(__file__).parent
LAST = 3
"""Evaluations at the end whose mean is a run's score."""
SERVER, EDGE = "test_accuracy", "test_edge_accuracy"
FIRST, OTHER = "test_accuracy_first", "test_accuracy_mlp"
SENT = ("bytes_up", "bytes_down")
COLUMNS = {
    "fedgkt2020": {"server's network": SERVER, "edge's own": EDGE},
    "fed_et2022": {
        "evaluated network": SERVER,
        "clients with two layers": FIRST,
        "clients with three": OTHER,
    },
}
LINKS = (
    "FedGKT", "8 bit", "4 bit", "top 10 % of the features", "FedAvg, whole network",
)  # fmt: skip
TEACHERS = ("FedGKT", "no distillation", "logits of other rows", "both ways")
CHEAP = (
    "Fed-ET", "Fed-ET, rotated 8 bit", "Fed-ET, rotated 4 bit", "FedDF", "FedMD",
    "FedAvg, the server's network",
)  # fmt: skip
VARIANTS = (
    "Fed-ET", "uniform weights", "no diversity", "no shared layers", "alike, Fed-ET",
    "alike, uniform weights",
)  # fmt: skip
Runs = list[dict[str, Any]]


def read(folder: Path) -> dict[str, Runs]:
    """The curves of each scheme's runs, by seed; bytes are summed up to each point."""
    found: dict[str, Runs] = {}
    for scheme in json.loads((folder / "grid.json").read_text())["schemes"]:
        runs = []
        for run in scheme["runs"]:
            path = folder / run["folder"] / "metrics.jsonl"
            records = [json.loads(line) for line in path.read_text().splitlines()]
            for way in SENT:
                sums = itertools.accumulate(record[way] for record in records)
                records = [
                    {**record, way: total}
                    for record, total in zip(records, sums, strict=True)
                ]
            runs.append(
                {
                    name: [r[name] for r in records if SERVER in r and name in r]
                    for name in ("round", SERVER, EDGE, FIRST, OTHER, *SENT)
                }
            )
        found[scheme["name"]] = runs
    return found


def score(runs: Runs, name: str) -> list[float]:
    """The mean of the last evaluations of each run; empty where there are none."""
    return [statistics.fmean(run[name][-LAST:]) for run in runs if run[name]]


def shown(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in per cent."""
    if not values:
        return ""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.fmean(values):.1f} ± {100 * spread:.1f} %"


def table(schemes: dict[str, Runs], columns: dict[str, str]) -> str:
    """Markdown: a line for each scheme."""
    titles = ["scheme", *columns, "MB up", "MB down"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for scheme, runs in schemes.items():
        ways = [statistics.fmean(run[way][-1] / 1e6 for run in runs) for way in SENT]
        cells = [scheme, *(shown(score(runs, name)) for name in columns.values())]
        lines.append("| " + " | ".join([*cells, *(f"{w:,.2f}" for w in ways)]) + " |")
    return "\n".join(lines) + "\n"


def middle(runs: Runs, name: str) -> list[float]:
    """The mean over seeds of each round, in per cent."""
    rounds = zip(*(run[name] for run in runs), strict=True)
    return [100 * statistics.fmean(each) for each in rounds]


def by_megabytes(panel: Any, schemes: dict[str, Runs], names: tuple[str, ...]) -> None:
    """Curves against what has travelled; a run of few bytes is short."""
    for color, name in zip(PALETTE, names, strict=False):
        runs = schemes[name]
        both = zip(*(runs[0][way] for way in SENT), strict=True)
        spent = [(up + down) / 1e6 for up, down in both]
        panel.plot(spent, middle(runs, SERVER), ".-", color=color, label=name)
    panel.set_xscale("log")


def by_round(
    panel: Any, schemes: dict[str, Runs], names: tuple[str, ...], score: str
) -> None:
    """Curves against rounds."""
    for color, name in zip(PALETTE, names, strict=False):
        curve = middle(schemes[name], score)
        rounds = schemes[name][0]["round"]
        panel.plot(rounds, curve, ".-", color=color, label=name)


def draw(path: Path, left: Callable, right: Callable, titles: tuple[str, str]) -> None:
    """Two panels with legends."""
    figure = new_figure(12, 4.6)
    panels = figure.subplots(1, 2)
    for panel, fill, title, x in zip(
        panels,
        (left, right),
        titles,
        ("MB both ways, all clients", "round"),
        strict=True,
    ):
        fill(panel)
        style(panel, title, x, "test accuracy, %")
        panel.legend(frameon=False, fontsize=9)
    save(figure, path)


def main() -> None:
    """The command line."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    schemes, place = read(folder), HERE / name
    (place / "results.json").write_text(json.dumps(schemes, indent=1) + "\n")
    (place / "results.md").write_text(table(schemes, COLUMNS[name]))
    if name == "fedgkt2020":
        left, right, scored, titles = (
            LINKS, TEACHERS, EDGE,
            ("features in fewer bits", "edge networks alone, mean of four"),
        )  # fmt: skip
    else:
        left, right, scored, titles = (
            CHEAP, VARIANTS, SERVER,
            ("evaluated network", "Fed-ET and its parts"),
        )  # fmt: skip
    draw(
        place / "results.png",
        lambda panel: by_megabytes(panel, schemes, left),
        lambda panel: by_round(panel, schemes, right, scored),
        titles,
    )


if __name__ == "__main__":
    main()
