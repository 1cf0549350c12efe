"""The command line. Everything heavy is imported after the arguments are known."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fedjax_compress
from fedjax_compress.cli.arguments import (
    check_text,
    positionals,
    print_all_characters,
    shape_of,
    view_of,
)
from fedjax_compress.cli.foreign import explain
from fedjax_compress.errors import Diverged, InputError, Lost
from fedjax_compress.experiment.config import FIELDS, Config, validate
from fedjax_compress.experiment.grid import (
    GRID_WORDS,
    SCHEMES,
    Grid,
    load_base,
    load_grid,
    parse_scheme,
)
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.experiment.toml import load_toml, read_toml
from fedjax_compress.registry import nearest
from fedjax_compress.registry.imports import bring, merged
from fedjax_compress.report.files import GRID, quoted

PROGRAM = "fedjax-compress"
_POSITIONAL: dict[str, str | None] = {
    "run": "config",
    "resume": "folder",
    "compare": "config",
    "report": "folders",
    "bench": None,
    "size": None,
    "partition": None,
    "list": "name",
}
_DEFECT, _BAD_INPUT = 1, 2
_SIGNALLED = 128
_DISTRIBUTED = "fedjax_compress.runtime.distributed"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Exit status: 0 done; 2 something the user gave cannot be used (one line says
    what); 3 another process of the run has ended before; 4 the server's model has
    diverged; 130 after Ctrl-C and 143 after SIGTERM, with everything saved; 141 when
    the reader of the output has gone.
    """
    try:
        status = _status(argv)
    except Exception:
        _leave(_DEFECT)
        raise
    _leave(status)
    return status


def _leave(status: int) -> None:
    """Says goodbye to the other processes of a run, if there are any."""
    if found := sys.modules.get(_DISTRIBUTED):
        found.leave(status)


def _status(argv: Sequence[str] | None) -> int:
    """Runs one command and returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    print_all_characters()
    try:
        with warnings.catch_warnings(), _fewer_collections():
            warnings.showwarning = _warn
            status = _command(arguments)
        if sys.stdout is not None:  # it may have been closed before the start
            sys.stdout.flush()
        return status
    except InputError as error:
        _say(f"error: {error}")
        return _BAD_INPUT
    except Lost as lost:
        _say(str(lost))
        return Lost.STATUS
    except Diverged as diverged:
        _say(str(diverged))
        return Diverged.STATUS
    except Stopped as stopped:
        _say(str(stopped))
        return _SIGNALLED + signal.Signals[stopped.signal]
    except KeyboardInterrupt:
        _say("interrupted")
        return _SIGNALLED + signal.SIGINT
    except BrokenPipeError:
        # Python would complain once more when it flushes stdout on leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGNALLED + signal.SIGPIPE
    except Exception as error:
        words = explain(error)
        if words is None:
            raise
        _say(f"error: {words}")
        return _BAD_INPUT


@contextlib.contextmanager
def _fewer_collections() -> Iterator[None]:
    """Tracing makes millions of small objects that stay: a fifth of it was gc."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _say(text: str) -> None:
    found = sys.modules.get(_DISTRIBUTED)
    print(f"{PROGRAM}: {found.name() if found else ''}{text}", file=sys.stderr)


def _warn(message: Warning | str, *rest: Any, **more: Any) -> None:
    _say(f"warning: {message}")


def _command(arguments: list[str]) -> int:
    check_text(arguments)
    if arguments == ["--version"]:
        print(f"{PROGRAM} {fedjax_compress.__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        _parse(["--help"], Config())
    name, rest = arguments[0], arguments[1:]
    if name not in _POSITIONAL:
        hint = nearest(name, list(_POSITIONAL))
        raise InputError(f"there is no command {name!r}; {hint}")
    from fedjax_compress.cli.options import OPTIONS

    shape = shape_of(OPTIONS[name](Config()), _POSITIONAL[name])
    named = positionals(rest, shape, f"{PROGRAM} {name}")
    base = Config()
    if _POSITIONAL[name] == "config" and named:
        base = _base(named[0], name == "compare")
    _COMMANDS[name](_parse(arguments, base), base)
    return 0


def _base(path: str, grids: bool) -> Config:
    """The settings in a file, which may be a grid's if ``grids``."""
    if grids:
        return load_base(path)
    if not GRID_WORDS.isdisjoint(read_toml(path)):
        raise InputError(
            f"{path} is a grid; run it with: {PROGRAM} compare {quoted(Path(path))}"
        )
    return load_toml(path)


def _parse(arguments: list[str], base: Config) -> Any:
    """The options of a subcommand; ``base`` gives the defaults."""
    import tyro

    from fedjax_compress.cli.options import OPTIONS

    return tyro.extras.subcommand_cli_from_dict(
        {name: make(base) for name, make in OPTIONS.items()},
        prog=PROGRAM,
        description=fedjax_compress.__doc__,
        args=arguments,
    )


def _settings(options: Any, base: Config) -> Config:
    """``base`` with the options that were given."""
    given = {n: getattr(options, n) for n in FIELDS if hasattr(options, n)}
    given["imports"] = merged(base.imports, options.imports)
    config = dataclasses.replace(base, **given)
    validate(config)
    return config


def _run(options: Any, base: Config) -> None:
    config = _settings(options, base)
    _launch(options)
    from fedjax_compress.experiment import run
    from fedjax_compress.runtime import use_compilation_cache

    use_compilation_cache()
    run(config, options.output, quiet=options.quiet)


def _launch(options: Any) -> None:
    """Meets the other processes, where the options speak of any."""
    from fedjax_compress.runtime import distributed

    names = distributed.Launch._fields
    distributed.start(distributed.Launch(*(getattr(options, n) for n in names)))


def _resume(options: Any, base: Config) -> None:
    changes = {n: getattr(options, n, None) for n in FIELDS}
    given = {n: value for n, value in changes.items() if value not in (None, ())}
    if (Path(options.folder) / GRID).is_file():
        _resume_grid(options, given)
        return
    _launch(options)
    from fedjax_compress.experiment import resume
    from fedjax_compress.runtime import use_compilation_cache

    use_compilation_cache()
    resume(options.folder, given, quiet=options.quiet)


def _resume_grid(options: Any, given: dict[str, Any]) -> None:
    files_now = given.pop("imports", ())
    if other := [name for name in given if name != "rounds"]:
        raise InputError(
            f"{options.folder} holds a grid, which goes on as it is or with more "
            f"rounds; leave --{other[0].replace('_', '-')} out"
        )
    if options.distributed or options.coordinator:
        raise InputError("a grid runs in one process; leave those of a launch out")
    from fedjax_compress.experiment import resume_grid
    from fedjax_compress.runtime import use_compilation_cache

    use_compilation_cache()
    rounds = given.get("rounds")
    resume_grid(options.folder, rounds, imports=files_now, quiet=options.quiet)


def _compare(options: Any, base: Config) -> None:
    config = _settings(options, base)
    grid = load_grid(options.config) if options.config else None
    if grid is None:
        schemes = tuple(parse_scheme(text) for text in options.scheme) or SCHEMES
        grid = Grid(config, schemes, (config.seed,))
    elif options.scheme:
        raise InputError(f"{options.config} names the schemes; leave --scheme out")
    elif config.seed != grid.base.seed:
        raise InputError(f"{options.config} names the seeds; leave --seed out")
    from fedjax_compress.experiment import run_grid
    from fedjax_compress.runtime import use_compilation_cache

    use_compilation_cache()
    how = view_of(options) | {"only": tuple(options.only)}
    run_grid(grid._replace(base=config), options.output, **how)


def _report(options: Any, base: Config) -> None:
    from fedjax_compress.report import report

    bring(options.imports)
    report(list(options.folders), options.output, **view_of(options))


def _bench(options: Any, base: Config) -> None:
    from fedjax_compress.cli.benching import Outputs, bench

    bring(options.imports)
    given = dataclasses.asdict(options)
    del given["imports"]
    outputs = Outputs(given.pop("json"), given.pop("plot"), given.pop("quiet"))
    bench(given, outputs)


def _size(options: Any, base: Config) -> None:
    config = _settings(options, base)
    from fedjax_compress.cli.sizing import Question, measure_sizes
    from fedjax_compress.runtime import use_compilation_cache

    use_compilation_cache()
    question = Question(config, options.shape, options.classes, options.json)
    measure_sizes(question, options.quiet)


def _partition(options: Any, base: Config) -> None:
    config = _settings(options, dataclasses.replace(base, cohort=1))  # no round is run
    from fedjax_compress.cli.partitioning import Outputs, show_partition

    outputs = Outputs(options.output, options.json, options.quiet)
    show_partition(config, options.by, outputs)


def _list(options: Any, base: Config) -> None:
    from fedjax_compress.registry import describe

    bring(options.imports)
    print(describe(options.name))


_COMMANDS = {
    "run": _run,
    "resume": _resume,
    "compare": _compare,
    "report": _report,
    "bench": _bench,
    "size": _size,
    "partition": _partition,
    "list": _list,
}
