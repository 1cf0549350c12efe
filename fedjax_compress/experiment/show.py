"""What a run says before and after: a few lines of plain facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.text import Text

from fedjax_compress import tree
from fedjax_compress.data import describe_features, describe_target
from fedjax_compress.experiment.build import Parts
from fedjax_compress.experiment.config import Config
from fedjax_compress.experiment.grid import Grid
from fedjax_compress.report import files, words
from fedjax_compress.report.scores import of_summary
from fedjax_compress.typing import rows_of


def lines(console: Console, rows: list[tuple[str, str]]) -> None:
    """Names and what there is to say about them, in two columns."""
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        line = Text.assemble((name.ljust(width), "bold"), value)
        console.print(line, soft_wrap=True)


def header(console: Console, config: Config, parts: Parts, folder: Path) -> None:
    """What is about to run."""
    sizes, dataset = parts.data.sizes, parts.dataset
    count = tree.count(parts.params)
    low, middle, high = sizes.min(), int(np.median(sizes)), sizes.max()
    device = jax.devices()[0]
    plural = "s" if config.devices > 1 else ""
    layout = f"{config.lanes} lane{'s' if config.lanes > 1 else ''}"
    if config.convolution != "auto":
        layout += f", {config.convolution} convolutions"
    if parts.note:
        layout += f" ({parts.note})"
    maker = "" if device.device_kind == device.platform else f" ({device.device_kind})"
    lines(
        console,
        [
            (
                "data",
                f"{dataset.name}: {rows_of(dataset.train):,} training and "
                f"{rows_of(dataset.test):,} test examples, features: "
                f"{describe_features(dataset)}",
            ),
            ("target", describe_target(dataset)),
            (
                "clients",
                f"{parts.data.clients:,} by {config.partition}, {low:,} / {middle:,} / "
                f"{high:,} rows (least / median / most), {config.cohort:,} a round",
            ),
            ("model", f"{config.model}: {count:,} parameters"),
            ("local", config.local),
            ("up", config.uplink),
            ("down", config.downlink),
            *([("clock", config.clock)] if parts.simulator.watch is not None else []),
            (
                "engine",
                f"{config.devices} {device.platform} device{plural}{maker}, {layout}",
            ),
            ("output", str(folder)),
        ],
    )


def grid(console: Console, wanted: Grid, folder: Path) -> None:
    """What all runs of a grid have in common."""
    base, count = wanted.base, len(wanted.seeds)
    own = {name for scheme in wanted.schemes for name in scheme.settings}

    def common(name: str) -> str:
        return f"{getattr(base, name)}{' unless a scheme says' if name in own else ''}"

    size = f"{len(wanted.schemes)} schemes, {count} seed{'s' if count > 1 else ''} each"
    rounds = f"{common('rounds')}, {base.cohort} clients each"
    timed = base.clock != "none" or "clock" in own
    lines(
        console,
        [
            ("grid", size),
            ("data", f"{common('data')}, {common('partition')}"),
            ("model", common("model")),
            ("local", common("local")),
            ("rounds", rounds),
            *([("clock", common("clock"))] if timed else []),
            ("output", str(folder)),
        ],
    )


def _bytes(found: dict[str, Any], way: str) -> str:
    text, factor = words.megabytes(found[f"bytes_{way}"]), found[f"saved_{way}"]
    if factor is None:
        return text
    return f"{text}, {_saved(factor)} FP32 ({words.megabytes(found['fp32_bytes'])})"


def _saved(factor: float) -> str:
    text = words.saving(factor)
    return "about as many as" if text == "as many" else f"{text} than"


def _virtual(found: dict[str, Any]) -> str:
    """How long the rounds have taken by the clock, for what, and at what energy."""
    text = words.virtual(found["virtual_seconds"])
    shares = {
        "download": found["download_share"],
        "computing": found["compute_share"],
        "upload": found["upload_share"],
    }
    if "stale" not in found:  # else nobody waits
        shares["waiting"] = found["waiting_share"]
    if None not in shares.values():
        each = ", ".join(f"{100 * v:.0f} % {name}" for name, v in shares.items())
        text = f"{text} ({each})"
    if "energy_joules" in found:
        text += f", {words.joules(found['energy_joules'])}"
    gone = [f"{found[n]:,} {n}" for n in ("late", "lost", "stale") if found.get(n)]
    text += f"; reports: {', '.join(gone)}" if gone else ""
    failed = found.get("failed", 0)
    return text + (f"; rounds that failed: {failed:,}" if failed else "")


def summary(console: Console, found: dict[str, Any], folder: Path) -> None:
    """How a run has ended and where its files are."""
    names = [files.CONFIG, files.METRICS, files.SUMMARY, files.PLOT]
    if (folder / files.ROUND_PLOT).exists():
        names.append(files.ROUND_PLOT)
    score = of_summary(found)
    rows = [
        (
            f"test {score.words}",
            f"{score.show(found[score.key])} after {found['rounds']} rounds "
            f"(loss {words.number(found['test_loss'])})",
        ),
        *[(f"bytes {way}", _bytes(found, way)) for way in ("up", "down")],
        (
            "time",
            f"{words.duration(found['seconds'])} in rounds, "
            f"{words.short(found['clients_per_second'])} clients/s; "
            f"{words.duration(found['compile_seconds'])} to compile them",
        ),
        *([("virtual time", _virtual(found))] if "virtual_seconds" in found else []),
        ("files", f"{folder}: {', '.join(names)}, {files.CHECKPOINTS}/"),
    ]
    more = [
        f"{name.removeprefix('test_').replace('_', ' ')} {score.show(value)}"
        for name, value in found.items()
        if name.startswith("test_") and score.name in name and name != score.key
    ]
    if more:
        rows.insert(1, ("besides", ", ".join(more)))
    kinds = ("own model", score.personal_keys), ("by client", score.client_keys)
    for kind, keys in kinds:
        if keys[0] in found:
            mean, worst = (score.show(found[key]) for key in keys)
            rows.insert(1, (kind, f"mean {mean}, {score.worst} {worst}"))
    if "stopped_by" in found:
        rows.insert(0, ("stopped", f"by {found['stopped_by']}: {found['stop_reason']}"))
    if found["dropped"]:
        text = f"{found['dropped']} updates were not finite and were left out"
        if found["dropped"] == found["rounds"] * found["cohort"]:
            text = "no update was finite, so nothing was learned; try a smaller lr"
        rows.insert(-1, ("dropped", text))
    lines(console, rows)
