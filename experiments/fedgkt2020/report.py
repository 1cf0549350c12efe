"""Table and picture of the small protocol of FedGKT.

Command::

    python experiments/fedgkt2020/report.py runs/fedgkt

reads the runs that ``fedjax-compress compare`` has left there and writes
``results.json``, ``results.md`` and ``results.png`` beside this file.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from fedjax_compress.report.plots import PALETTE, new_figure, save, style

HERE = Path(__file__).parent
LAST = 3
"""Evaluations at the end whose mean is a run's score."""
SERVER, EDGE = "test_accuracy", "test_edge_accuracy"
LINKS = (
    "FedGKT", "8 bit", "4 bit", "top 10 % of the features", "FedAvg, whole network",
)  # fmt: skip
TEACHERS = ("FedGKT", "no distillation", "logits of other rows", "both ways")


def read(folder: Path) -> list[dict[str, Any]]:
    """Each scheme with the curves of its runs, by seed."""
    found = []
    for scheme in json.loads((folder / "grid.json").read_text())["schemes"]:
        runs = []
        for run in scheme["runs"]:
            path = folder / run["folder"] / "metrics.jsonl"
            records = [json.loads(line) for line in path.read_text().splitlines()]
            runs.append(
                {
                    name: [record[name] for record in records if name in record]
                    for name in (SERVER, EDGE, "bytes_up", "bytes_down")
                }
            )
        found.append({"name": scheme["name"], "runs": runs})
    return found


def score(runs: list[dict[str, Any]], name: str) -> list[float]:
    """The mean of the last evaluations of each run; empty where there are none."""
    return [statistics.fmean(run[name][-LAST:]) for run in runs if run[name]]


def shown(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in per cent."""
    if not values:
        return ""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.fmean(values):.1f} ± {100 * spread:.1f} %"


def table(schemes: list[dict[str, Any]]) -> str:
    """Markdown: a line for each scheme."""
    titles = [
        "scheme",
        "server's network",
        "best round",
        "edge's own",
        "MB up",
        "MB down",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for scheme in schemes:
        runs = scheme["runs"]
        ways = [
            statistics.fmean(sum(run[f"bytes_{way}"]) / 1e6 for run in runs)
            for way in ("up", "down")
        ]
        cells = [
            scheme["name"],
            shown(score(runs, SERVER)),
            shown([max(run[SERVER]) for run in runs]),
            shown(score(runs, EDGE)),
            *(f"{way:,.1f}" for way in ways),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def middle(runs: list[dict[str, Any]], name: str) -> list[float]:
    """The mean over seeds of each round, in per cent."""
    rounds = zip(*(run[name] for run in runs), strict=True)
    return [100 * statistics.fmean(each) for each in rounds]


def draw(schemes: list[dict[str, Any]], path: Path) -> None:
    """Accuracy of the server's network by megabytes; of the edge's by round."""
    by_name = {scheme["name"]: scheme["runs"] for scheme in schemes}
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    for color, name in zip(PALETTE, LINKS, strict=False):
        runs = by_name[name]
        spent, total = [], 0.0
        for up, down in zip(runs[0]["bytes_up"], runs[0]["bytes_down"], strict=True):
            total += (up + down) / 1e6
            spent.append(total)
        left.plot(spent, middle(runs, SERVER), ".-", color=color, label=name)
    left.set_xscale("log")
    for color, name in zip(PALETTE, TEACHERS, strict=False):
        curve = middle(by_name[name], EDGE)
        right.plot(range(1, len(curve) + 1), curve, ".-", color=color, label=name)
    style(left, "server's network", "MB both ways, all clients")
    style(right, "edge networks, mean of four", "rounds")
    left.set_ylabel("test accuracy, %")
    for panel in (left, right):
        panel.legend(frameon=False, fontsize=8)
    save(figure, path)


def main() -> None:
    """The command line."""
    schemes = read(Path(sys.argv[1]))
    (HERE / "results.json").write_text(json.dumps(schemes, indent=1) + "\n")
    (HERE / "results.md").write_text(table(schemes))
    draw(schemes, HERE / "results.png")


if __name__ == "__main__":
    main()
