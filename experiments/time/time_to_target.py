"""How long each scheme needs to 95 % on MNIST by writers, on three networks.

Command::

    python experiments/time/time_to_target.py --output runs/time

Three networks (fixed lines, 4G, weak 3G: medians in ``NETWORKS``, each client's own
rates drawn around them) x six schemes x three ways to run rounds (all are waited for,
13 are invited for 10, or nobody is waited for), three seeds each; a run ends with the
first round whose accuracy is 95 %. Federated Dropout and Federated Pruning are
algorithms of their own, as FedBuff is one, so 16 of the 18 remain.

The same command goes on where it was stopped; ``--network 4G`` and ``--only "FP32,
sync"`` run a part, ``--report`` nothing. Writes ``results.json``, ``results.md`` and
``results.png`` beside this file of the networks that are finished in the folder. Two
hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.patches import Patch

from fedjax_compress.experiment import Callback, Config, Grid, Scheme, StopRun, run_grid
from fedjax_compress.report import words
from fedjax_compress.report.plots import PALETTE, new_figure, save, style

HERE = Path(__file__).parent
TARGET, ROUNDS, SEEDS = 0.95, 80, (0, 1, 2)
PHONES = "devices(phone, sigma=0.6)"
NETWORKS = {
    "fibre": f"network(fixed_2020, sigma=0.6) | {PHONES} | energy(wifi)",
    "4G": f"network(mobile_2020, sigma=0.6) | {PHONES} | energy(lte)",
    "slow 3G": f"network(weak_3g, sigma=0.6) | {PHONES} | energy(umts)",
}
_QUANTIZED_DOWN = "hadamard | uniform(bits=6)"
_PRUNED = "federated_pruning(cubic(0.5, begin=0, end=8), every=2, refine_until=16)"
SCHEMES: dict[str, dict[str, str]] = {
    "FP32": {"uplink": "identity", "downlink": "identity"},
    "4 bit": {"uplink": "uniform(bits=4)", "downlink": _QUANTIZED_DOWN},
    "rotated 2 bit": {
        "uplink": "hadamard | uniform(bits=2)",
        "downlink": _QUANTIZED_DOWN,
    },
    "top-k 5 %, feedback": {
        "uplink": "error_feedback(top_k(0.05))",
        "downlink": _QUANTIZED_DOWN,
    },
    "Federated Dropout": {
        "uplink": "identity",
        "downlink": "identity",
        "algorithm": "federated_dropout(0.75)",
    },
    "Federated Pruning": {
        "uplink": "identity",
        "downlink": "identity",
        "algorithm": _PRUNED,
    },
}
WAYS = ("sync", "over-selected", "FedBuff")
FIGURES = {
    "bytes_up": ("megabytes_up", 1e6),
    "bytes_down": ("megabytes_down", 1e6),
    "virtual_seconds": ("seconds", 1),
    "energy_joules": ("kilojoules", 1e3),
}
"""Of a record: what they are called here, and their unit."""
BASE = Config(
    data="npz(path='../shared/data/mnist/train.npz', "
    "test='../shared/data/mnist/test.npz', client=writers)",
    partition="natural",
    model="cnn(widths=(16, 32), dense=256)",
    local="sgd(lr=0.1, epochs=1, batch=10)",
    server="fedavg",
    cohort=10,
    rounds=ROUNDS,
    evaluate_every=2,
    devices=1,
    checkpoint_every=ROUNDS,
)


class Reached(Callback):
    """Ends a run at the target."""

    def evaluation(self, record: dict[str, Any], state: Any) -> None:
        """Whether this is the round."""
        if record["test_accuracy"] >= TARGET:
            raise StopRun(f"accuracy has reached {TARGET:.0%}")


def grid(network: str, seeds: tuple[int, ...]) -> Grid:
    """All that is run on a network."""
    schemes = []
    for name, settings in SCHEMES.items():
        for way in WAYS:
            if way == "FedBuff" and "algorithm" in settings:
                continue
            own = {**settings, "clock": NETWORKS[network]}
            if way == "over-selected":
                own["clock"] += " | over_selection(1.3)"
            if way == "FedBuff":
                own["algorithm"] = "fedbuff(concurrency=13)"
            schemes.append(Scheme(f"{name}, {way}", own))
    return Grid(BASE, tuple(schemes), seeds)


def reached(folder: Path) -> dict[str, Any]:
    """Figures of a run up to its first round at the target; None if there is none."""
    sums = dict.fromkeys(FIGURES, 0.0)
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name in FIGURES:
            sums[name] += record[name]
        if record.get("test_accuracy", 0) >= TARGET:
            found = {
                label: sums[name] / unit for name, (label, unit) in FIGURES.items()
            }
            return {"rounds": record["round"], **found}
    return dict.fromkeys(("rounds", *(label for label, _ in FIGURES.values())))


def gather(output: Path) -> list[dict[str, Any]]:
    """A row for each scheme, way and network that is done; values by seed."""
    rows = []
    for network in NETWORKS:
        place = output / network.replace(" ", "_")
        if not (place / "grid.json").is_file():
            continue
        for scheme in json.loads((place / "grid.json").read_text())["schemes"]:
            name, _, way = scheme["name"].rpartition(", ")
            runs = [reached(place / run["folder"]) for run in scheme["runs"]]
            row = {"network": network, "scheme": name, "way": way}
            rows.append(row | {key: [run[key] for run in runs] for key in runs[0]})
    return rows


def middle(row: dict[str, Any], key: str) -> float | None:
    """The median over seeds; None where a seed has not got there."""
    values = row[key]
    return None if None in values else statistics.median(values)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each network and scheme; seconds of each way."""
    found = {(r["network"], r["scheme"], r["way"]): r for r in rows}
    titles = ["network", "scheme", *(f"{way}: s" for way in WAYS)]
    titles += ["sync: rounds", "MB up", "MB down", "kJ"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for network in NETWORKS:
        for scheme in SCHEMES:
            cells = [network, scheme]
            each = [found.get((network, scheme, way)) for way in WAYS]
            for row in each:
                cells.append("" if row is None else _seconds(row))
            for key in ("rounds", "megabytes_up", "megabytes_down", "kilojoules"):
                value = None if each[0] is None else middle(each[0], key)
                cells.append("" if value is None else words.short(value))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _seconds(row: dict[str, Any]) -> str:
    value = middle(row, "seconds")
    if value is None:
        return f"not in {ROUNDS} rounds"
    low, high = min(row["seconds"]), max(row["seconds"])
    return f"{words.short(value)} ({words.short(low)} to {words.short(high)})"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each network: medians as bars, all seeds as points."""
    figure = new_figure(13, 4.6)
    panels = figure.subplots(1, len(NETWORKS))
    for panel, network in zip(panels, NETWORKS, strict=True):
        for place, way in enumerate(WAYS):
            mine = [r for r in rows if (r["network"], r["way"]) == (network, way)]
            for row in mine:
                y = list(SCHEMES).index(row["scheme"]) + 0.27 * (place - 1)
                seconds = [x for x in row["seconds"] if x is not None]
                if (value := middle(row, "seconds")) is not None:
                    panel.barh(y, value, 0.25, color=PALETTE[place + 1])
                panel.plot(seconds, [y] * len(seconds), ".", color="black", ms=3)
        panel.set_yticks(
            range(len(SCHEMES)), list(SCHEMES) if panel is panels[0] else []
        )
        panel.invert_yaxis()
        style(panel, network, "virtual seconds to 95 %")
    shown = [Patch(color=PALETTE[i + 1], label=way) for i, way in enumerate(WAYS)]
    figure.legend(handles=shown, loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/time"))
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--only", action="append", default=[], metavar="SCHEME, WAY")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    for network in () if args.report else args.network or NETWORKS:
        run_grid(
            grid(network, SEEDS),
            args.output / network.replace(" ", "_"),
            only=tuple(args.only),
            axis="time",
            target=TARGET,
            callbacks=[Reached()],
        )
    rows = gather(args.output)
    (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "results.md").write_text(table(rows))
    draw(rows, HERE / "results.png")


if __name__ == "__main__":
    main()
