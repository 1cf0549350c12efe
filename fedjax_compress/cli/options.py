"""The options of each subcommand, as dataclasses made from the configuration.

The descriptions are those of the configuration, so that command line, TOML and
documentation cannot disagree.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from fedjax_compress.experiment.config import FIELDS, TYPES, Config, Role, named

_METAVARS: dict[type, str] = {int: "N", str: "SPEC"}
_Field = tuple[str, Any, Any]


def _own(name: str, default: Any, metavar: str, text: str) -> _Field:
    about = arg(metavar=metavar, help=text, help_behavior_hint="")
    return (name, Annotated[str | None, about], default)


def _setting(name: str, default: Any, unset: bool = False) -> _Field:
    """One field of the configuration as an option; ``unset`` allows to leave it."""
    kind: Any = TYPES[name]  # a value, so that it can stand in Annotated
    text = FIELDS[name].metadata["help"]
    if name == _IMPORTS:
        about = arg(name="import", metavar="FILE.py", help=f"{text}; may be repeated")
        return (name, Annotated[tuple[str, ...], UseAppendAction, about], ())
    if kind is bool:
        return (name, Annotated[kind, arg(help=text)], default)
    choices = "|".join(FIELDS[name].metadata["choices"])
    metavar = choices or _METAVARS[kind]
    if unset:
        hint = "(default: as in the run)"
        about = arg(metavar=metavar, help=text, help_behavior_hint=hint)
        return (name, Annotated[kind | None, about], None)
    return (name, Annotated[kind, arg(metavar=metavar, help=text)], default)


def _whole(name: str, default: int | None, text: str) -> _Field:
    hint = "" if default is None else f"(default: {default})"
    about = arg(metavar="N", help=text, help_behavior_hint=hint)
    return (name, Annotated[int | None, about], default)


def _flag(name: str, text: str) -> _Field:
    return (name, Annotated[bool, FlagCreatePairsOff, arg(help=text)], False)


_IMPORTS = "imports"
_VIEW = (
    _own(
        "axis",
        "bytes",
        "bytes|rounds|time|energy",
        "what plots show scores against; time and energy need a clock (default: bytes)",
    ),
    _own(
        "target",
        None,
        "SCORE",
        "a score, such as 0.8: what it takes to reach it is shown as well",
    ),
)
_QUIET = _flag("quiet", "show nothing but errors")


_LAUNCH = (
    _own(
        "coordinator",
        None,
        "HOST:PORT",
        "where process 0 can be reached, for a run of several processes",
    ),
    _whole("processes", None, "how many processes there are"),
    _whole("process_id", None, "which of them this is, from 0"),
    _flag("distributed", "take the three from SLURM, Open MPI, TPU pod or Kubernetes"),
    _whole("heartbeat", 100, "seconds of silence after which a process counts as dead"),
)


def _config_file(text: str = "settings to start from") -> _Field:
    text = f"{text}; options override them"
    about = arg(metavar="[CONFIG.toml]", help=text, help_behavior_hint="")
    return ("config", Annotated[str | None, Positional, about], None)


def run_options(base: Config) -> type:
    """Options of ``run``, with the defaults of ``base``."""
    settings = [_setting(n, getattr(base, n)) for n in FIELDS]
    output = "folder to make; if not given, the next free runs/DATA-NNN"
    return _make(
        "RunOptions",
        "Run one configuration.",
        [
            _config_file(),
            _own("output", None, "DIR", output),
            *settings,
            *_LAUNCH,
            _QUIET,
        ],
    )


def resume_options(base: Config) -> type:
    """Options of ``resume``; settings are only there to be checked."""
    folder = Annotated[str, Positional, arg(metavar="DIR", help="folder of the run")]
    given = [n for n in FIELDS if TYPES[n] is not bool]
    settings = [_setting(n, None, unset=True) for n in given]
    return _make(
        "ResumeOptions",
        "Go on with a run from its newest checkpoint, bit for bit.\n\n"
        "All settings come from the run's config.toml. A larger --rounds makes it go "
        "on for more rounds; so it does with the folder of a grid, but for schemes "
        "with rounds of their own. Another --devices, or another number of processes, "
        "is allowed; the run then goes on equal to rounding and not bit for bit. Any "
        "other setting, if given, must be the run's own.",
        [("folder", folder, dataclasses.field()), *settings, *_LAUNCH, _QUIET],
    )


def compare_options(base: Config) -> type:
    """Options of ``compare``, with the defaults of ``base``."""
    settings = [
        _setting(n, getattr(base, n)) for n in FIELDS if n not in named(Role.SCHEME)
    ]
    schemes = Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=UPLINK",
            help="a scheme to compare, as in '2 bit=hadamard | uniform(bits=2)'; give "
            "it again for each; ';DOWNLINK' may follow; if none is given: FP32, 8 bit, "
            "rotated 4 and 2 bit, top-k 1 % with error feedback, QSGD",
        ),
    ]
    only = Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME",
            help="run this scheme only; give it again for each",
        ),
    ]
    output = (
        "folder to make, or one to go on with; if not given, the next free "
        "runs/compare-NNN"
    )
    return _make(
        "CompareOptions",
        "Compare compression schemes on the same data, seeds and rounds.\n\n"
        "One run for each scheme, one table with the Pareto front, plots of accuracy "
        "against megabytes. With seeds = [0, 1, 2] and [[schemes]] (name, uplink, and "
        "whatever is their own) the file is a grid: a run for each scheme and seed, "
        "means and spreads. The same command with --output, or resume, goes on with "
        "what was stopped, and with more --rounds makes it longer.",
        [
            _config_file("settings to start from, or a grid"),
            _own("output", None, "DIR", output),
            ("scheme", schemes, ()),
            ("only", only, ()),
            *_VIEW,
            *settings,
            _QUIET,
        ],
    )


def report_options(base: Config) -> type:
    """Options of ``report``."""
    text = "folders of finished runs, comparisons or grids"
    about = arg(metavar="DIR...", help=text, help_behavior_hint="(at least one)")
    folders = Annotated[tuple[str, ...], Positional, about]
    output = "folder for plot and numbers; if not given, the next free runs/report-NNN"
    return _make(
        "ReportOptions",
        "Table and plot of finished runs.",
        [
            ("folders", folders, ()),
            _own("output", None, "DIR", output),
            *_VIEW,
            _setting(_IMPORTS, ()),
            _QUIET,
        ],
    )


def list_options(base: Config) -> type:
    """Options of ``list``."""
    text = (
        "data, partition, sampling, model, local, stage, ...: all that may be named "
        "there; or a name, such as eden, for its whole page; everything if not given"
    )
    about = arg(metavar="[KIND|NAME]", help=text, help_behavior_hint="")
    name = Annotated[str | None, Positional, about]
    return _make(
        "ListOptions",
        "Everything that a SPEC may name, with options, types and defaults.",
        [("name", name, None), _setting(_IMPORTS, ())],
    )


def bench_options(base: Config) -> type:
    """Options of ``bench``."""
    sweep = (
        "clients=10,100,1000, population=1000,1000000, lanes=1,2,4, devices=1,2, "
        "convolution=patches,winograd, 'uplink=SPEC;SPEC', 'algorithm=SPEC;SPEC', "
        "'qat=SPEC;SPEC' or 'clock=SPEC;SPEC': measure all of these"
    )
    return _make(
        "BenchOptions",
        "Measure the speed of the engine, against simpler programs where asked for.\n\n"
        "All contenders run in turn, round by round, each in a process of its own. "
        "Workloads: W1, a CNN on 28x28 images; W2, one dense layer on the same; W3, a "
        "character LSTM. All three, small, if none is named.",
        [
            _own("workload", None, "W1|W2|W3", "what to train"),
            _whole("clients", None, "clients a round; if not given, 20, 1000 and 4"),
            _whole("rounds", 5, "measured rounds, after one of warm-up"),
            _flag("compare", "add a Python loop over clients, and SGD without clients"),
            _flag(
                "overhead",
                "measure what compressors cost: the common ones, or those of --uplink "
                "'SPEC; SPEC'",
            ),
            _own("sweep", None, "NAME=VALUES", sweep),
            _whole("population", 0, "registered clients; 0: 3400, or as --clients"),
            _whole("lanes", 0, FIELDS["lanes"].metadata["help"]),
            _whole("devices", 0, FIELDS["devices"].metadata["help"]),
            _own("convolution", "auto", "FORM", FIELDS["convolution"].metadata["help"]),
            _flag("tune", "let the engine search for its fastest layout first"),
            _own("uplink", "identity", "SPEC", "compressor of what clients send"),
            _own("downlink", "identity", "SPEC", "compressor of the model"),
            _own("algorithm", "fedavg", "SPEC", "algorithm of the engine"),
            _own("model", "", "SPEC", "another model for the workload's data"),
            _own("qat", "none", "SPEC", "quantization-aware training of the engine"),
            _own("clock", "none", "SPEC", "virtual time of the engine"),
            _setting(_IMPORTS, ()),
            _own("json", None, "FILE", "where all figures go"),
            _own("plot", None, "FILE.png", "where a picture of --sweep goes"),
            _QUIET,
        ],
    )


def size_options(base: Config) -> type:
    """Options of ``size``."""
    shape = "shape of one example, as in 28,28,1, instead of that of the data"
    return _make(
        "SizeOptions",
        "Bytes of a model's messages by layer and kind, without training.\n\n"
        "Up, a made-up Gaussian update; down, the initial parameters; with --qat also "
        "these as codes and scales. Beside what is counted: nominal size, entropy, and "
        "the message squeezed as a whole.",
        [
            *[_setting(n, getattr(base, n)) for n in named(Role.SIZE)],
            _own("shape", None, "N,N,...", shape),
            _whole("classes", None, "classes, with --shape; 10 if not given"),
            _setting(_IMPORTS, ()),
            _own("json", None, "FILE", "where all figures go"),
            _QUIET,
        ],
    )


def partition_options(base: Config) -> type:
    """Options of ``partition``."""
    return _make(
        "PartitionOptions",
        "Who has what: the rows and labels of each client, without training.\n\n"
        "Rows are dealt as run deals them. Shown are how many rows and labels clients "
        "have, and how far their labels are from those of all clients together, beside "
        "what it would be if rows were shuffled among them.",
        [
            *[_setting(n, getattr(base, n)) for n in named(Role.DEAL)],
            _own(
                "by",
                "",
                "NAME",
                "column of whole numbers that is counted in the place of the labels, "
                "or client for the data's own clients",
            ),
            _setting(_IMPORTS, ()),
            _own("output", None, "FILE.png", "where a picture goes; or FILE.svg"),
            _own("json", None, "FILE", "where all figures go"),
            _QUIET,
        ],
    )


OPTIONS = {
    "run": run_options,
    "resume": resume_options,
    "compare": compare_options,
    "report": report_options,
    "bench": bench_options,
    "size": size_options,
    "partition": partition_options,
    "list": list_options,
}


def _make(name: str, text: str, fields: list[_Field]) -> type:
    entries = [
        (n, t, d if isinstance(d, dataclasses.Field) else dataclasses.field(default=d))
        for n, t, d in fields
    ]
    made = dataclasses.make_dataclass(name, entries, frozen=True)
    made.__doc__ = text
    return made
