"""Accuracy by simulated seconds of runs on Conv-2: a table, a picture, the figures.

    python experiments/prunefl2022/report.py NAME=FOLDER NAME=FOLDER ...

reads ``metrics.jsonl`` of each folder and writes ``results.md``, ``results.json`` and
``results.png`` beside this file. A round takes c + sum_l k_l t_l seconds by the time
model of the paper (``prune.conv2_femnist``), with k_l the weights of layer l in use in
that round; where all are, 51.1 s. What happens before the first round takes none, as
in the paper. Runs of PruneFL record their seconds themselves.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from fedjax_compress import prune

HERE = Path(__file__).parent
LAYERS = {"conv_1": 800, "conv_2": 51_200, "dense": 6_422_528, "output": 126_976}
WEIGHTS = sum(LAYERS.values())
TARGETS = (0.5, 0.55, 0.6, 0.65, 0.7)


def read(folder: Path) -> dict[str, Any]:
    """Evaluated rounds with the seconds and megabytes up to each."""
    model = prune.conv2_femnist()
    records = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    seconds, megabytes, points = 0.0, 0.0, []
    # Pruning by the server begins after a round; a mask that was given is there before.
    grows = "federated_pruning" in (folder / "config.toml").read_text()
    in_use = [1.0] * len(LAYERS) if grows else _in_use(records[0])
    for record in records:
        counts = zip(in_use, LAYERS.values(), strict=True)
        seconds += float(model.seconds([share * n for share, n in counts]))
        seconds = record.get("simulated_seconds", seconds)
        # A record has the density after its round; the next round trains with it.
        in_use = _in_use(record)
        megabytes += (record["bytes_up"] + record["bytes_down"]) / 1e6
        if "test_accuracy" in record:
            points.append(
                {
                    "round": record["round"],
                    "seconds": seconds,
                    "megabytes": megabytes,
                    "accuracy": record["test_accuracy"],
                    "density": record.get("density", 1.0),
                }
            )
    return {"rounds": len(records), "points": points}


def _in_use(record: dict[str, Any]) -> list[float]:
    return [record.get(f"density/{name}/kernel", 1.0) for name in LAYERS]


def reached(points: list[dict[str, Any]], target: float) -> dict[str, Any] | None:
    """The first evaluation at which the accuracy is reached."""
    return next((p for p in points if p["accuracy"] >= target), None)


def table(runs: dict[str, dict[str, Any]]) -> str:
    """Markdown: seconds and rounds to each accuracy that somebody has reached."""
    targets = [
        t for t in TARGETS if any(reached(r["points"], t) for r in runs.values())
    ]
    heads = [f"{100 * t:.0f} %: s (rounds, MB)" for t in targets]
    titles = ["method", *heads, "end: accuracy", "rounds", "s", "in use"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name, run in runs.items():
        cells = [name]
        for target in targets:
            p = reached(run["points"], target)
            cells.append(
                "-"
                if p is None
                else f"{p['seconds']:,.0f} ({p['round']}, {p['megabytes']:,.0f})"
            )
        end = run["points"][-1]
        cells += [
            f"{100 * end['accuracy']:.1f} %",
            str(run["rounds"]),
            f"{end['seconds']:,.0f}",
            f"{end['density'] * WEIGHTS / 1e6:.2f} M ({100 * end['density']:.0f} %)",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """Accuracy against simulated seconds, and weights in use against rounds."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for name, run in runs.items():
        points = run["points"]
        left.plot(
            [p["seconds"] for p in points],
            [100 * p["accuracy"] for p in points],
            label=name,
        )
        right.plot(
            [p["round"] for p in points],
            [p["density"] * WEIGHTS / 1e6 for p in points],
            label=name,
        )
    left.set_xscale("log")
    left.set_xlabel("simulated seconds")
    left.set_ylabel("test accuracy, %")
    right.set_xlabel("round")
    right.set_ylabel("weights in use, millions")
    right.set_yscale("log")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> int:
    """The command line: names and folders."""
    pairs = [text.partition("=") for text in sys.argv[1:]]
    if not pairs or not all(name and folder for name, _, folder in pairs):
        print(__doc__, file=sys.stderr)
        return 2
    runs = {name: read(Path(folder)) for name, _, folder in pairs}
    (HERE / "results.json").write_text(json.dumps(runs, indent=1) + "\n")
    (HERE / "results.md").write_text(table(runs))
    draw(runs, HERE / "results.png")
    print(table(runs), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
