"""Keeps the outcome of a grid: figures without curves, a table, the picture.

    python experiments/table.py runs/survey experiments/survey2020/digits

reads ``grid.json`` and ``grid.png`` of the folder that ``fedjax-compress compare``
wrote, and writes ``digits.json``, ``digits.md`` and ``digits.png`` in that place. Ways
and operations that are the same for all schemes have no column.

    python experiments/table.py --picture experiments/survey2020/digits

draws ``digits.png`` again from ``digits.json``; and

    python experiments/table.py --picture all one.json other.json

draws the schemes of several grids of one setting into ``all.png``, with their front.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

FIGURES = (
    "bytes_up", "bytes_down", "nominal_bytes_up", "nominal_bytes_down",
    "saved_up", "saved_down",
)  # fmt: skip
COSTS = ("client_parameters", "client_macs", "client_flops")
ACCURACY = "test_accuracy"
ALIKE = 1.0005


def kept(content: dict[str, Any]) -> dict[str, Any]:
    """Settings, means, spreads and values of each scheme, and hashes of each run."""
    schemes = [
        {
            "name": s["name"],
            "settings": s["settings"],
            "rounds": s["rounds"],
            "pareto": s["pareto"],
            **({"metric": s["metric"]} if _score_of(s) != ACCURACY else {}),
            **{name: s[name] for name in (_score_of(s), *FIGURES)},
            **{name: s["runs"][0][name] for name in COSTS if name in s["runs"][0]},
            "parameters_sha256": [run["parameters_sha256"] for run in s["runs"]],
        }
        for s in content["schemes"]
    ]
    return {"seeds": content["seeds"], "schemes": schemes}


def table(content: dict[str, Any]) -> str:
    """Markdown: a line for each scheme, the smallest message last."""
    schemes = sorted(
        content["schemes"],
        key=lambda s: -s["bytes_up"]["mean"] - s["bytes_down"]["mean"],
    )
    shown: list[tuple[str, Any]] = []
    for way in ("up", "down"):
        if not _alike([s[f"bytes_{way}"]["mean"] for s in schemes]):
            shown += [
                (f"MB {way}", _megabytes(way)),
                ("times fewer than FP32", _saved(way)),
            ]
    if not _alike([sum(s.get("client_macs", [0])) for s in schemes]):
        shown.append(("million multiplications a row", _multiplications))
    score = _score_of(schemes[0]).removeprefix("test_")
    titles = ["", "scheme", "options", f"{score}, %", *(title for title, _ in shown)]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for s in schemes:
        cells = ["*" if s["pareto"] else "", s["name"], _options(s), _score(s)]
        cells += [show(s) for _, show in shown]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _alike(values: list[float]) -> bool:
    return max(values) <= ALIKE * min(values)


def _options(scheme: dict[str, Any]) -> str:
    settings = scheme["settings"]
    return " ".join(
        f"`{value}`".replace("|", "\\|")
        for name, value in settings.items()
        if (name, value) != ("uplink", "identity") or len(settings) == 1
    )


def _score_of(scheme: dict[str, Any]) -> str:
    """What a scheme is judged by: ``test_accuracy``, ``test_wer``."""
    return f"test_{scheme['metric']['name']}" if "metric" in scheme else ACCURACY


def _score(scheme: dict[str, Any]) -> str:
    mean, spread = (scheme[_score_of(scheme)][x] for x in ("mean", "spread"))
    score = "diverged" if mean is None else f"{100 * mean:.1f}"
    return score + ("" if spread is None else f" ± {100 * spread:.1f}")


def _megabytes(way: str) -> Any:
    return lambda scheme: f"{scheme[f'bytes_{way}']['mean'] / 1e6:,.2f}"


def _saved(way: str) -> Any:
    return lambda scheme: f"{scheme[f'saved_{way}']['mean']:.1f}"


def _multiplications(scheme: dict[str, Any]) -> str:
    return " / ".join(f"{macs / 1e6:.3g}" for macs in scheme["client_macs"])


def redraw(target: Path, sources: list[Path]) -> None:
    """One picture of what was kept of grids."""
    from fedjax_compress.experiment.grid_folder import front
    from fedjax_compress.report.grid_plots import draw_grid
    from fedjax_compress.report.scores import Score

    schemes: list[dict[str, Any]] = []
    for source in sources:
        schemes += json.loads(source.read_text())["schemes"]
    score = Score(**schemes[0].get("metric", {}))
    points = []
    for s in schemes:
        both = zip(s["bytes_up"]["values"], s["bytes_down"]["values"], strict=True)
        sent = [(up + down) / 1e6 for up, down in both]
        around = statistics.stdev(sent) if len(sent) > 1 else None
        s["megabytes"] = {"mean": statistics.fmean(sent), "spread": around}
        points.append((s["megabytes"]["mean"], score.worth(s[score.key]["mean"])))
    for s, best in zip(schemes, front(points), strict=True):
        s["pareto"] = best
    draw_grid(schemes, target.with_suffix(".png"), score)


def main() -> int:
    """The command line: a folder, and where to."""
    if sys.argv[1:2] == ["--picture"] and len(sys.argv) >= 3:
        target, *sources = map(Path, sys.argv[2:])
        redraw(target, sources or [target.with_suffix(".json")])
        return 0
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    content = kept(json.loads((folder / "grid.json").read_text()))
    target.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    target.with_suffix(".md").write_text(table(content))
    shutil.copyfile(folder / "grid.png", target.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
