"""The command ``bench``: what is measured goes to a table, a file and a picture."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from fedjax_compress.bench import Case, Request, measure, parse_sweep, plan
from fedjax_compress.cli import bench_plots
from fedjax_compress.cli.arguments import check_file
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import SPECS
from fedjax_compress.registry import imports
from fedjax_compress.report import files, words
from fedjax_compress.report.progress import make_console
from fedjax_compress.report.records import clean
from fedjax_compress.runtime import host

Result = dict[str, Any]
_LIBRARIES = ("fedjax_compress", "jax", "jaxlib", "numpy", "flax", "optax")
_PARTS = ("platform", "device_kind")


class Outputs(NamedTuple):
    """Where the outcome goes.

    Attributes:
      json: file of all figures, or None.
      plot: PNG of a sweep or of the overhead, or None.
      quiet: show nothing.
    """

    json: str | None = None
    plot: str | None = None
    quiet: bool = False


def bench(asked: dict[str, Any], outputs: Outputs) -> dict[str, Any]:
    """Measures and shows; returns what the JSON file holds.

    The file is written anew after each group of cases, so that what has been measured
    stays if the rest is stopped.

    Args:
      asked: the fields of ``bench.Request``.
      outputs: where the outcome goes.

    Raises:
      InputError: something that cannot be measured or written; all of it is checked
        before anything starts.
    """
    host.check_settings()
    request = Request(**asked)
    groups = plan(request)
    _check_outputs(outputs, request)
    console = make_console(outputs.quiet)
    content: dict[str, Any] = {
        "results": [],
        "machine": _machine(),
        "command": _command(asked, outputs),
    }
    for number, group in enumerate(groups):
        title = f"{number + 1}/{len(groups)} {_title(group)}"
        console.print(title, style="bold", markup=False, soft_wrap=True)
        results = _measure(console, group, request.rounds)
        content["machine"] |= {name: results[0][name] for name in _PARTS}
        content["results"] += [clean(found) for found in results]
        if outputs.json is not None:
            files.write_json(Path(outputs.json), content)
    console.print()
    console.print(table(content["results"]))
    _say_forms(console, content["results"])
    if outputs.plot is not None:
        _plot(request, content["results"], Path(outputs.plot))
    written = [str(name) for name in (outputs.json, outputs.plot) if name is not None]
    if written:
        console.print(Text(f"files: {', '.join(written)}"), soft_wrap=True)
    return content


def _measure(console: Console, group: list[Case], rounds: int) -> list[Result]:
    if not console.is_terminal or console.quiet:
        return measure(group, rounds)
    with Status("", console=console) as status:
        return measure(group, rounds, lambda text: status.update(Text(text)))


def _title(group: list[Case]) -> str:
    case = group[0]
    plural = "s" * (case.clients > 1)
    turns = f", {len(group)} in turn" if len(group) > 1 else ""
    return f"{case.workload}: {case.clients:,} client{plural} a round{turns}"


def _check_outputs(outputs: Outputs, request: Request) -> None:
    check_file("json", outputs.json)
    check_file("plot", outputs.plot)
    if outputs.plot is None:
        return
    if Path(outputs.plot).suffix.lower() != ".png":
        raise InputError(f"plot is a PNG; give a name like {outputs.plot}.png")
    if request.sweep is None and not request.overhead:
        raise InputError(
            "plot shows a sweep or the overhead; add --sweep or --overhead"
        )
    if request.overhead and request.workload is None:
        raise InputError("plot shows one workload; add --workload W1, W2 or W3")


def _plot(request: Request, results: list[Result], path: Path) -> None:
    if request.overhead:
        bench_plots.draw_links(results, path)
        return
    name, _ = parse_sweep(str(request.sweep))
    if name in SPECS:
        bench_plots.draw_links(results, path)
    else:
        bench_plots.draw_sweep(results, name, path)


def _machine() -> dict[str, Any]:
    """Where and with what the figures were made; workers say which device."""
    return {
        "cpu_count": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _command(asked: dict[str, Any], outputs: Outputs) -> list[str]:
    """The command line that asks for the same."""
    parts = ["fedjax-compress", "bench"]
    parts += [word for path in imports.current() for word in ("--import", path)]
    defaults = {**Request()._asdict(), **Outputs()._asdict()}
    for name, value in {**asked, **outputs._asdict()}.items():
        if value is True:
            parts.append(f"--{name}")
        elif value != defaults[name]:
            parts += [f"--{name}", str(value)]
    return parts


class _Column(NamedTuple):
    """A column of the table; an optional one is left out where it says nothing."""

    name: str
    cell: Callable[[Result], str]
    optional: bool = False


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _link(name: str) -> Callable[[Result], str]:
    return lambda r: r[name] or "-"


_COLUMNS = (
    _Column("workload", lambda r: r["workload"]),
    _Column("clients", lambda r: _whole(r["clients"])),
    _Column("population", lambda r: _whole(r["population"]), True),
    _Column("contender", lambda r: r["contender"]),
    _Column("algorithm", _link("algorithm"), True),
    _Column("qat", _link("qat"), True),
    _Column("clock", _link("clock"), True),
    _Column("up", _link("uplink"), True),
    _Column("down", _link("downlink"), True),
    _Column("devices", lambda r: _whole(r["devices"]), True),
    _Column("lanes", lambda r: _whole(r["lanes"])),
    _Column("s/round", lambda r: f"{r['seconds_per_round']:.4g}"),
    _Column("samples/s", lambda r: _whole(r["samples_per_second"])),
    _Column("clients/s", lambda r: words.short(r["clients_per_second"])),
    _Column("GFLOP/s", lambda r: words.short(r["gflops"])),
    _Column("of bound", lambda r: _ratio(r["share_of_bound"]), True),
    _Column("to loop", lambda r: _ratio(r["ratio_to_loop"]), True),
    _Column("time", lambda r: _ratio(r["time_to_first"]), True),
    _Column("coding", lambda r: words.percent(r["coding_share"]), True),
    _Column("compile s", lambda r: f"{r['compile_seconds']:.1f}"),
    _Column("peak MB", lambda r: _whole(r["peak_rss_mb"])),
    _Column("device MB", lambda r: _whole(r["device_peak_mb"]), True),
    _Column("loss 1", lambda r: words.number(r["loss_first"], 5)),
)
_USUAL = {
    "algorithm": "fedavg",
    "qat": "none",
    "clock": "none",
    "up": "identity",
    "down": "identity",
    "devices": "1",
    "population": "3,400",
}
_LEFT = ("workload", "contender", "algorithm", "qat", "clock", "up", "down")


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def table(results: list[Result]) -> Table:
    """One row a case; columns in which nothing is unusual are left out.

    ``of bound`` and ``to loop`` are quotients of samples a second, ``time`` is that of
    a round beside the first engine's, ``coding`` the share of a round that encoding and
    decoding take, ``loss 1`` the loss after the first round.
    """
    found = Table(box=None, padding=(0, 1), pad_edge=False)
    cells = {c.name: [c.cell(r) for r in results] for c in _COLUMNS}
    for column in _COLUMNS:
        if column.optional and not _telling(column.name, cells[column.name]):
            del cells[column.name]
    for name in cells:
        side: Any = "left" if name in _LEFT else "right"
        found.add_column(name, justify=side, overflow="fold", no_wrap=name not in _LEFT)
    for row in zip(*cells.values(), strict=True):
        found.add_row(*[Text(cell) for cell in row])
    return found


def _telling(name: str, cells: list[str]) -> bool:
    """Whether a column says something: a cell that is neither empty nor the usual."""
    return any(cell not in ("-", _USUAL.get(name, "1.00")) for cell in cells)


def _say_forms(console: Console, results: list[Result]) -> None:
    """Which form of each baseline was the fastest."""
    forms = [
        f"{r['contender']} of {r['workload']}: {r['form']}"
        for r in results
        if "form" in r
    ]
    if forms:
        text = f"fastest form tried: {'; '.join(dict.fromkeys(forms))}"
        console.print(Text(text), soft_wrap=True)
