"""Keeps the outcome of a grid: figures without curves, a table, the picture.

    python experiments/survey2020/table.py runs/survey digits

reads ``grid.json`` and ``grid.png`` of the folder that ``fedjax-compress compare``
wrote, and writes ``digits.json``, ``digits.md`` and ``digits.png`` beside this file.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIGURES = ("test_accuracy", "bytes_up", "bytes_down", "nominal_bytes_up", "saved_up")


def kept(content: dict[str, Any]) -> dict[str, Any]:
    """Settings, means, spreads and values of each scheme, and hashes of each run."""
    schemes = [
        {
            "name": s["name"],
            "settings": s["settings"],
            "rounds": s["rounds"],
            "pareto": s["pareto"],
            **{name: s[name] for name in FIGURES},
            "parameters_sha256": [run["parameters_sha256"] for run in s["runs"]],
        }
        for s in content["schemes"]
    ]
    return {"seeds": content["seeds"], "schemes": schemes}


def table(content: dict[str, Any]) -> str:
    """Markdown: a line for each scheme, the smallest message last."""
    lines = [
        "| | scheme | options | accuracy, % | MB up | times fewer than FP32 |",
        "|---|---|---|---|---|---|",
    ]
    schemes = sorted(content["schemes"], key=lambda s: -s["bytes_up"]["mean"])
    for s in schemes:
        mean, spread = (s["test_accuracy"][x] for x in ("mean", "spread"))
        score = "diverged" if mean is None else f"{100 * mean:.1f}"
        score += "" if spread is None else f" ± {100 * spread:.1f}"
        options = " ".join(
            f"`{value}`".replace("|", "\\|")
            for name, value in s["settings"].items()
            if (name, value) != ("uplink", "identity") or len(s["settings"]) == 1
        )
        up = s["bytes_up"]["mean"]
        lines.append(
            f"| {'*' if s['pareto'] else ''} | {s['name']} | {options} | {score} "
            f"| {up / 1e6:,.2f} | {s['saved_up']['mean']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line: a folder and a name."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    folder, name = Path(sys.argv[1]), sys.argv[2]
    content = kept(json.loads((folder / "grid.json").read_text()))
    (HERE / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (HERE / f"{name}.md").write_text(table(content))
    shutil.copyfile(folder / "grid.png", HERE / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
