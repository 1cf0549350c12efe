"""The command ``size``: bytes of a model's messages by layer, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedjax_compress import compress, tree
from fedjax_compress.cli.arguments import check_file
from fedjax_compress.compress import LayerSize, SizeReport
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.build import check_specs, load_data
from fedjax_compress.experiment.components import network
from fedjax_compress.experiment.config import Config, with_field
from fedjax_compress.experiment.show import lines
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.report import files, words
from fedjax_compress.report.progress import make_console
from fedjax_compress.runtime import host
from fedjax_compress.typing import Params, Task
from fedjax_compress.wire import HEADER_BYTES

WAYS = {"up": "uplink", "down": "downlink"}
QUANTIZED = "quantized"
_SETTINGS = {**WAYS, QUANTIZED: "qat"}
KINDS = ("values", "indices", "scales", "mask")
SPREAD = 0.01
"""Standard deviation of the made-up update."""
_MODEL, _UPDATE = range(2)


class Question(NamedTuple):
    """Whose messages are measured.

    Attributes:
      config: model, data, qat, uplink, downlink and seed are used.
      shape: of one example, as in "28,28,1"; None to take that of the data.
      classes: number of classes, given together with a shape.
      json: file of all figures, or None.
    """

    config: Config
    shape: str | None = None
    classes: int | None = None
    json: str | None = None


def measure_sizes(question: Question, quiet: bool = False) -> dict[str, Any]:
    """Measures one message each way and shows it; returns what the JSON file holds.

    Up, the message is a made-up update: independent Gaussian numbers of standard
    deviation 0.01. Down, it is the model's initial parameters. Where the model is
    quantized in training, a third message holds these as codes and scales, as
    algorithms with ``send=quantized`` or ``receive=quantized`` have it.

    Raises:
      InputError: anything that cannot work, before the first message is made.
    """
    config = question.config
    check_specs(config)
    check_file("json", question.json)
    host.check_settings()
    host.start_devices()
    task = _task(question)
    model = network(config, task)
    key = jax.random.fold_in(root_key(config.seed), _MODEL)
    try:
        params = jax.tree.map(jnp.asarray, model.init(key))
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"model: {config.model} does not fit examples of shape "
            f"{tuple(task.shape)}: {reason}"
        ) from error
    messages = {"up": _update(params, config.seed), "down": params}
    reports = {
        way: with_field(
            name,
            compress.size_report,
            with_field(name, compress.parse, getattr(config, name)),
            messages[way],
            config.seed,
        )
        for way, name in WAYS.items()
    }
    if model.quantized is not None:
        reports[QUANTIZED] = with_field(
            "qat", compress.size_report, model.quantized.compressor, params, config.seed
        )
    found = _figures(config, task, params, reports)
    if question.json is not None:
        files.write_json(Path(question.json), found)
    _show(make_console(quiet), found, reports, config.qat)
    return found


def _task(question: Question) -> Task:
    if question.shape is None:
        if question.classes is not None:
            raise InputError("classes belongs to a shape; add --shape, as in 28,28,1")
        return load_data(question.config).task
    try:
        shape = tuple(int(part) for part in question.shape.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise InputError(
            f"shape must be whole numbers like 28,28,1, not {question.shape!r}"
        )
    classes = 10 if question.classes is None else question.classes
    if classes < 1:
        raise InputError(f"classes must be at least 1, not {classes}")
    return Task(shape, classes)


def _update(params: Params, seed: int) -> Params:
    rng = np.random.default_rng([seed, _UPDATE])
    return jax.tree.map(
        lambda x: jnp.asarray(SPREAD * rng.normal(size=x.shape), x.dtype), params
    )


def _figures(
    config: Config, task: Task, params: Params, reports: dict[str, SizeReport]
) -> dict[str, Any]:
    return {
        "model": config.model,
        "shape": list(task.shape),
        "classes": task.classes,
        "seed": config.seed,
        "parameters": tree.count(params),
        "fp32_bytes": reports["up"].fp32_bytes,
        "header_bytes": HEADER_BYTES,
        **{
            way: {
                "spec": getattr(config, _SETTINGS[way]),
                "bytes": report.total_bytes,
                "factor": report.fp32_bytes / report.total_bytes,
                "layers": [
                    {"leaves": list(row.paths), "bits": row.bits}
                    for row in report.layers
                ],
                "not_counted": {
                    "nominal_bytes": report.nominal_bytes,
                    "ideal_bytes": report.ideal_bytes,
                    "deflate_bytes": report.deflate_bytes,
                    "zstd_bytes": report.zstd_bytes,
                },
            }
            for way, report in reports.items()
        },
    }


def _show(
    console: Console, found: dict[str, Any], reports: dict[str, SizeReport], qat: str
) -> None:
    count, fp32 = found["parameters"], words.megabytes(found["fp32_bytes"])
    shape = "x".join(map(str, found["shape"]))
    about = [
        ("model", f"{found['model']}: {count:,} parameters, {fp32} in FP32"),
        ("input", f"{shape}, {found['classes']} classes"),
        ("up", f"{found['up']['spec']}, of a made-up Gaussian update"),
        ("down", f"{found['down']['spec']}, of the initial parameters"),
    ]
    if QUANTIZED in reports:
        spec = found[QUANTIZED]["spec"]
        about.append((QUANTIZED, f"{spec}, of the initial parameters"))
    elif qat.partition("(")[0].strip() != "none":
        about.append((QUANTIZED, f"no such message: {qat} has float32 weights"))
    lines(console, about)
    for way, report in reports.items():
        console.print()
        title = f"{way}: {found[way]['spec']}"
        console.print(title, style="bold", markup=False, soft_wrap=True)
        console.print(table(report))
    console.print()
    console.print(_totals(reports))
    console.print()
    note = (
        "Counted is what a run is billed: packed bytes. Not counted: nominal, as "
        "papers count; ideal, the entropy of the symbols without any table; deflate "
        "and zstd, the message squeezed as a whole. Real updates give other lengths "
        "where a code depends on the data."
    )
    if QUANTIZED in reports:
        note += (
            " quantized is the message of algorithms with send=quantized or "
            "receive=quantized, in place of up or down. Nominal, a symbol takes log2 "
            "of its levels, 2^b - 1 for integers of b bits and 2^b for those of lsq."
        )
    console.print(Text(note))


def _bytes(bits: int) -> str:
    return f"{-(-bits // 8):,}" if bits else "-"


def _name(row: LayerSize) -> str:
    if len(row.paths) > 1:
        return f"{row.paths[0]} ... {row.paths[-1]}, together"
    return row.paths[0] if row.paths else "(no layer)"


def _shape(row: LayerSize) -> str:
    if len(row.paths) > 1:
        return f"{len(row.paths)} leaves"
    return "x".join(map(str, row.shapes[0])) or "scalar" if row.paths else "-"


def _elements(row: LayerSize) -> int:
    return tree.count([jax.ShapeDtypeStruct(s, jnp.float32) for s in row.shapes])


def table(report: SizeReport) -> Table:
    """A row for each layer: bytes by kind, begun bytes counted whole; and the total."""
    kinds = [k for k in KINDS if any(row.bits.get(k) for row in report.layers)]
    grid = Table(box=None, padding=(0, 1), pad_edge=False)
    grid.add_column("layer", overflow="fold")
    for name in ("shape", "elements", *kinds, "bytes", "bits/element", "to FP32"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in report.layers:
        bits, elements = sum(row.bits.values()), _elements(row)
        each = f"{bits / elements:.2f}" if elements else "-"
        factor = words.factor(32 * elements / bits) if elements and bits else "-"
        cells = [_bytes(row.bits.get(kind, 0)) for kind in kinds]
        size = f"{elements:,}" if elements else "-"
        left = [_name(row), _shape(row), size]
        grid.add_row(*map(Text, [*left, *cells, _bytes(bits), each, factor]))
    empty = [""] * len(kinds)
    header = ["header", "", "", *empty, f"{HEADER_BYTES:,}", "", ""]
    grid.add_row(*map(Text, header))
    sums = {k: sum(row.bits.get(k, 0) for row in report.layers) for k in kinds}
    elements, total = report.fp32_bytes // 4, report.total_bytes
    cells = ["total", "", f"{elements:,}", *(_bytes(sums[k]) for k in kinds)]
    each = f"{8 * total / elements:.2f}" if elements else "-"
    cells += [f"{total:,}", each, words.factor(report.fp32_bytes / total)]
    grid.add_row(*map(Text, cells), style="bold")
    return grid


def _totals(reports: dict[str, SizeReport]) -> Table:
    grid = Table(box=None, padding=(0, 1), pad_edge=False)
    names = ("counted bytes", "to FP32", "nominal", "ideal", "deflate", "zstd")
    for name in ("", *names):
        grid.add_column(name, justify="right" if name else "left", no_wrap=True)
    ways = [(w, [r]) for w, r in reports.items()]
    both = [reports[way] for way in WAYS]
    for way, parts in [*ways[:2], ("both", both), *ways[2:]]:
        total = sum(r.total_bytes for r in parts)
        others = [
            sum(r.nominal_bytes for r in parts),
            sum(r.ideal_bytes for r in parts),
            sum(r.deflate_bytes for r in parts),
            sum(r.zstd_bytes for r in parts),
        ]
        factor = words.factor(sum(r.fp32_bytes for r in parts) / total)
        cells = [way, f"{total:,}", factor, *(f"{x:,.0f}" for x in others)]
        grid.add_row(*map(Text, cells))
    return grid
