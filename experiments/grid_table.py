"""Keeps the outcome of a grid: figures without curves, a table, the picture.

    python experiments/grid_table.py runs/caldas2018 experiments/caldas2018 mnist

reads ``grid.json`` and ``grid.png`` of the folder that ``fedjax-compress compare``
wrote, and writes ``mnist.json``, ``mnist.md`` and ``mnist.png`` into the second.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

FIGURES = (
    "test_accuracy", "bytes_up", "bytes_down", "nominal_bytes_up", "nominal_bytes_down",
    "saved_up", "saved_down",
)  # fmt: skip
COSTS = ("client_parameters", "client_macs", "client_flops")


def kept(content: dict[str, Any]) -> dict[str, Any]:
    """Settings, means, spreads and values of each scheme, and hashes of each run."""
    schemes = [
        {
            "name": s["name"],
            "settings": s["settings"],
            "rounds": s["rounds"],
            **{name: s[name] for name in FIGURES if name in s},
            **{name: s["runs"][0][name] for name in COSTS if name in s["runs"][0]},
            "fp32_bytes": s["runs"][0]["fp32_bytes"],
            "parameters_sha256": [run["parameters_sha256"] for run in s["runs"]],
        }
        for s in content["schemes"]
    ]
    return {"seeds": content["seeds"], "schemes": schemes}


def table(content: dict[str, Any]) -> str:
    """Markdown: a line for each scheme, with nominal and true factors side by side."""
    lines = [
        "| scheme | accuracy, % | down: nominal, true | up: nominal, true "
        "| operations of a client |",
        "|---|---|---|---|---|",
    ]
    first = content["schemes"][0]
    for s in content["schemes"]:
        mean, spread = (s["test_accuracy"][x] for x in ("mean", "spread"))
        score = "diverged" if mean is None else f"{100 * mean:.2f}"
        score += "" if spread is None else f" ± {100 * spread:.2f}"
        factors = [
            f"{s['fp32_bytes'] / s[f'nominal_bytes_{way}']['mean']:.1f}x, "
            f"{s[f'saved_{way}']['mean']:.1f}x"
            for way in ("down", "up")
        ]
        share = first["client_macs"][0] / s["client_macs"][0]
        lines.append(
            f"| {s['name']} | {score} | {factors[0]} | {factors[1]} | 1 / {share:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line: a folder, another, and a name."""
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    source, target, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    content = kept(json.loads((source / "grid.json").read_text()))
    (target / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (target / f"{name}.md").write_text(table(content))
    shutil.copyfile(source / "grid.png", target / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
