"""Table 1 of Grativol et al. 2023 beside what was run: accuracy and message sizes.

    python experiments/grativol2023/report.py runs/grativol results [ROUNDS.jsonl ...]

reads the finished runs of the grid in a folder and writes ``results.json``,
``results.md`` and ``results.png`` (accuracy by round, the study's two figures) beside
this file. Rounds of ``beside_torch.py``, given after the name, are drawn as well and
compared with each run. Sizes, in MiB (2^20 bytes), are of one message of the final
model:

  nominal   the study's count, of its own forms: b bits for each weight of
            convolutions and of the dense layer and for the latter's biases, 32 bits for
            GroupNorm; no scales
  packed    our bytes of the same content, header, scales and float32 biases included:
            integer codes, or values and positions of what is not zero
  ZIP       DEFLATE of all parameters as little-endian float32, zeros included

Accuracy is that after the last round, beside the mean of the last five evaluations and
the best; the study does not say which it took. A cell that has not been run has no
line, and one of another network or number of rounds than the study's has no published
figures beside it.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from curves import Curve, draw

from fedjax_compress import compress, prune, tree, wire
from fedjax_compress.experiment import load_toml, trained
from fedjax_compress.typing import Keys

HERE = Path(__file__).parent
MIB = 2**20
PUBLISHED = {
    "reference": (78.94, 78.18, 2.97),
    "prune 10 %": (74.79, 78.18, 2.33),
    "prune 20 %": (76.01, 78.12, 2.09),
    "prune 30 %": (78.20, 77.83, 1.84),
    "prune 40 %": (77.50, 77.81, 1.59),
    "prune 50 %": (72.74, 77.65, 1.33),
    "prune 60 %": (76.00, 77.65, 1.06),
    "prune 70 %": (73.43, 78.11, 0.81),
    "prune 80 %": (75.18, 77.89, 0.56),
    "prune 90 %": (73.37, 76.63, 0.31),
    "prune 95 %": (71.05, 74.81, 0.20),
    "prune 99 %": (52.77, 66.82, 0.12),
    "1 bit": (48.93, 70.89, 0.10),
    "4 bit": (79.74, 77.04, 0.38),
    "8 bit": (78.80, 78.58, 0.75),
}
"""Of each setting: percent with 1 and with 10 local epochs, and MiB of a message."""


def nominal(params: Any, bits: int) -> float:
    """MiB by the study's formula."""
    leaves = zip(tree.paths(params), jax.tree.leaves(params), strict=True)
    total = sum(x.size * (32 if "norm" in path else bits) for path, x in leaves)
    return total / 8 / MIB


def study_bits(qat: str) -> int | None:
    """Bits of a weight as the study counts them; None for what it does not have."""
    if qat == "none":
        return 32
    if qat.startswith("binary"):
        return 1
    found = re.match(r"integer\((?:bits=)?(\d+)", qat)
    return int(found[1]) if found else None


def packed(params: Any, compressor: Any) -> float:
    """MiB of the message as it would be sent."""
    keys = Keys(jax.random.key(0), jax.random.key(1))
    payload, _ = compressor.encode(params, compressor.init(params), keys)
    return len(wire.pack(payload)) / MIB


def deflated(data: bytes) -> float:
    """MiB after DEFLATE at level 6."""
    return len(zlib.compress(data, 6)) / MIB


def zipped(params: Any) -> float:
    """MiB of all parameters as float32, after DEFLATE."""
    raw = b"".join(np.asarray(x, "<f4").tobytes() for x in jax.tree.leaves(params))
    return deflated(raw)


def curve(lines: Path) -> Curve:
    """The evaluated rounds of a file and their accuracies in percent."""
    records = [json.loads(line) for line in lines.open()]
    scored = [r for r in records if r.get("test_accuracy") is not None]
    return [r["round"] for r in scored], [100 * r["test_accuracy"] for r in scored]


def cell(folder: Path) -> dict[str, Any]:
    """What there is to say about one run."""
    config = load_toml(folder / "config.toml")
    summary = json.loads((folder / "summary.json").read_text())
    model, params = trained(folder)
    rounds, scores = curve(folder / "metrics.jsonl")
    width = study_bits(config.qat)
    rate = re.match(r"magnitude_pruning\((?:rate=)?([\d.]+)", config.algorithm)
    sent, link = params, model.quantizer or compress.parse("identity")
    if rate:
        mask = prune.make_global_mask(params, float(rate[1]))
        sent = jax.tree.map(lambda m, w: np.where(m, w, 0), mask, params)
        link = model.quantizer or compress.parse("nonzero")
    messages = summary["rounds"] * summary["cohort"]
    return {
        "rounds": summary["rounds"],
        "seed": summary["seed"],
        "accuracy": 100 * summary["test_accuracy"],
        "best_accuracy": max(scores),
        "last_five_accuracy": sum(scores[-5:]) / len(scores[-5:]),
        "nominal_mib": nominal(params, width) if width and not rate else None,
        "packed_mib": packed(sent, link),
        "zip_mib": zipped(sent) if rate else None,
        "sent_mib": summary["bytes_up"] / messages / MIB,
        "parameters": tree.count(params),
        "parameters_sha256": summary["parameters_sha256"],
        "config": {"qat": config.qat, "algorithm": config.algorithm},
        "curve": [rounds, scores],
    }


def together(ours: Curve, theirs: Curve) -> dict[str, float]:
    """Two curves at the rounds that both have: differences, and how changes go along.

    ``changes`` is the correlation of what accuracy gains from one of these rounds to
    the next.
    """
    a, b = dict(zip(*ours, strict=True)), dict(zip(*theirs, strict=True))
    rounds = sorted(a.keys() & b.keys())
    x, y = (np.array([c[r] for r in rounds]) for c in (a, b))
    return {
        "rounds": len(rounds),
        "difference": float(np.mean(x - y)),
        "deviation": float(np.std(x - y)),
        "changes": float(np.corrcoef(np.diff(x), np.diff(y))[0, 1]),
    }


def table(cells: dict[str, dict[str, Any]]) -> str:
    """Markdown: a line for each cell that was run."""
    titles = [
        "setting", "accuracy, %", "mean of 5", "best", "published", "difference",
        "nominal, MiB", "packed", "ZIP", "published", "sent a message",
    ]  # fmt: skip
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name, found in cells.items():
        setting, _, epochs = name.partition(", seed")[0].partition(", E = ")
        whole = (found["parameters"], found["rounds"]) == (780_266, 100)
        known = PUBLISHED.get(setting) if whole else None
        accuracy = known[1 if epochs == "10" else 0] if known else None
        values = [
            found["accuracy"], found["last_five_accuracy"], found["best_accuracy"],
            accuracy,
            None if accuracy is None else found["accuracy"] - accuracy,
            found["nominal_mib"], found["packed_mib"], found["zip_mib"],
            known[2] if known else None, found["sent_mib"],
        ]  # fmt: skip
        signs = [".1f", ".1f", ".1f", ".2f", "+.1f", ".3f", ".3f", ".3f", ".2f", ".3f"]
        cells_of = [
            "-" if v is None else f"{v:{s}}" for v, s in zip(values, signs, strict=True)
        ]
        lines.append("| " + " | ".join([name, *cells_of]) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line: the folder of a grid, a name, and rounds of elsewhere."""
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    folder, name = Path(sys.argv[1]), sys.argv[2]
    grid = json.loads((folder / "grid.json").read_text())
    several = len(grid["seeds"]) > 1
    runs = {
        scheme["name"] + f", seed {run['seed']}" * several: folder / run["folder"]
        for scheme in grid["schemes"]
        for run in scheme["runs"]
    }
    cells = {name: cell(where) for name, where in runs.items()}
    curves = {title: curve(where / "metrics.jsonl") for title, where in runs.items()}
    found: dict[str, Any] = dict(cells)
    for path in map(Path, sys.argv[3:]):
        words, theirs = path.stem.replace("_", " "), curve(path)
        found[words] = {title: together(c, theirs) for title, c in curves.items()}
        curves[f"reference, E = 1, {words}"] = theirs
    draw(curves, HERE / f"{name}.png")
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / f"{name}.md").write_text(table(cells))
    print(table(cells), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
