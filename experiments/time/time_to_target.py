"""How long each scheme needs to 95 % on MNIST by writers, on three networks.

Command::

    python experiments/time/time_to_target.py --output runs/time

Three networks (fixed lines, 4G, weak 3G: medians in ``NETWORKS``, each client's own
rates drawn around them) x six schemes x three ways to run rounds (all are waited for,
13 are invited for 10, or nobody is waited for), three seeds each; a run ends with the
first round whose accuracy is 95 %. Federated Dropout and Federated Pruning are
algorithms of their own, as FedBuff is one, so 16 of the 18 remain.

The same command goes on where it was stopped. ``--network 4G``, ``--only "FP32, sync"``
and ``--seeds 0`` run a part. Writes ``results.json``, ``results.md`` and
``results.png`` beside this file from all runs that are finished in the folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_compress.experiment import Callback, Config, Grid, Scheme, StopRun, run_grid

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


class Cell(NamedTuple):
    """A scheme, run in one way on one network."""

    network: str
    scheme: str
    way: str


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
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    found: dict[str, Any] = dict.fromkeys(
        ("rounds", "megabytes_up", "megabytes_down", "seconds", "kilojoules")
    )
    sums = dict.fromkeys(("bytes_up", "bytes_down", "virtual_seconds"), 0.0)
    sums |= {"energy_joules": 0.0}
    for record in records:
        for name in sums:
            sums[name] += record[name]
        if record.get("test_accuracy", 0) >= TARGET:
            found = {
                "rounds": record["round"],
                "megabytes_up": round(sums["bytes_up"] / 1e6, 3),
                "megabytes_down": round(sums["bytes_down"] / 1e6, 3),
                "seconds": round(sums["virtual_seconds"], 3),
                "kilojoules": round(sums["energy_joules"] / 1e3, 4),
            }
            break
    return found


def gather(output: Path) -> list[dict[str, Any]]:
    """All cells of which every run is there."""
    rows = []
    for network in NETWORKS:
        place = output / network.replace(" ", "_") / "grid.json"
        if not place.is_file():
            continue
        for scheme in json.loads(place.read_text())["schemes"]:
            name, _, way = scheme["name"].rpartition(", ")
            runs = [
                reached(Path(place.parent) / run["folder"]) for run in scheme["runs"]
            ]
            row = {"network": network, "scheme": name, "way": way}
            row |= {"settings": scheme["settings"]}
            rows.append(row | {key: [run[key] for run in runs] for key in runs[0]})
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/time"))
    parser.add_argument("--network", choices=NETWORKS, action="append")
    args = parser.parse_args()
    for network in args.network or NETWORKS:
        folder = args.output / network.replace(" ", "_")
        run_grid(
            grid(network, SEEDS),
            folder,
            axis="time",
            target=TARGET,
            callbacks=[Reached()],
        )


if __name__ == "__main__":
    main()
