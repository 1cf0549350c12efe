"""Several compression schemes on the same data, seeds, and rounds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from fedjax_compress import spec
from fedjax_compress.errors import Diverged, InputError
from fedjax_compress.experiment import files, show
from fedjax_compress.experiment.build import (
    check_specs,
    left_open,
    load_data,
    request_devices,
)
from fedjax_compress.experiment.config import Config, difference
from fedjax_compress.experiment.progress import make_console
from fedjax_compress.experiment.reporting import (
    Finished,
    has_diverged,
    publish,
    read_finished,
)
from fedjax_compress.experiment.runner import resume, run
from fedjax_compress.experiment.stopped import Stopped
from fedjax_compress.experiment.toml import load_toml


class Scheme(NamedTuple):
    """One way to compress.

    Attributes:
      name: what table and plot call it.
      uplink: specification of what clients send.
      downlink: of what the server sends; empty for the comparison's.
    """

    name: str
    uplink: str
    downlink: str = ""


SCHEMES = (
    Scheme("FP32", "identity", "identity"),
    Scheme("8 bit", "uniform(bits=8)"),
    Scheme("rotated 4 bit", "hadamard | uniform(bits=4)"),
    Scheme("rotated 2 bit", "hadamard | uniform(bits=2)"),
    Scheme("top-k 1 %, error feedback", "error_feedback(top_k(0.01))"),
    Scheme("QSGD 4 bit", "qsgd(bits=4)"),
)
"""What ``compare`` runs when nothing is asked for."""


def parse_scheme(text: str) -> Scheme:
    """A scheme from ``NAME=UPLINK`` or ``NAME=UPLINK;DOWNLINK``; the name may lack.

    Raises:
      InputError: the uplink is empty.
    """
    name, equals, rest = text.partition("=")
    if not equals or any(mark in name for mark in "(|;"):
        name, rest = "", text
    uplink, *others = spec.split(rest, ";")
    downlink = ";".join(others)
    if not uplink.strip():
        raise InputError(
            f"scheme {text!r} has no uplink; write it as in "
            "'rotated 4 bit=hadamard | uniform(bits=4)'"
        )
    return Scheme(name.strip() or uplink.strip(), uplink.strip(), downlink.strip())


def compare(
    config: Config,
    schemes: tuple[Scheme, ...] = SCHEMES,
    output: str | Path | None = None,
    *,
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs each scheme into a folder of its own; returns what ``compare.json`` holds.

    Runs that are finished in the folder are kept and unfinished ones are resumed, so
    the same command goes on where it was stopped. One that diverges is marked, and not
    tried again: to do that, resume it by itself, or remove its folder.

    Args:
      config: all settings but the uplink; its downlink serves schemes without one.
      schemes: what to compare.
      output: a folder, new or of the same comparison; None makes the next free
        ``runs/compare-NNN``.
      quiet: show nothing.

    Raises:
      InputError: something cannot work; all schemes are checked before one runs.
      Stopped: SIGTERM or Ctrl-C; what has been done is kept.
    """
    jobs = _jobs(config, schemes)
    request_devices(config.devices)
    for job in jobs.values():
        check_specs(job)
    if output is not None:
        _check_folder(Path(output), jobs)
    dataset = load_data(config)
    folder = files.next_free("compare") if output is None else Path(output)
    files.create(folder)
    console = make_console(quiet)
    _introduce(console, config, folder)
    finished: list[Finished] = []
    for i, (scheme, (name, job)) in enumerate(zip(schemes, jobs.items(), strict=True)):
        title = f"{i + 1}/{len(jobs)} {scheme.name}: {job.uplink}"
        console.print(title, style="bold", markup=False, soft_wrap=True)
        place = folder / name
        try:
            if has_diverged(place):
                console.print("has diverged before")
            elif files.holds_run(place):
                resume(place, quiet=quiet, brief=True, dataset=dataset)
            else:
                run(job, place, quiet=quiet, brief=True, dataset=dataset)
        except Diverged as diverged:
            console.print(str(diverged), markup=False, soft_wrap=True)
        except Stopped as stopped:
            command = f"the same compare command with --output {files.quoted(folder)}"
            raise Stopped(stopped.signal, place, stopped.round, command) from None
        finished.append(read_finished(place, scheme.name))
    console.print()
    return publish(finished, folder, console)


def _introduce(console: Console, config: Config, folder: Path) -> None:
    """What all schemes have in common."""
    show.lines(
        console,
        [
            ("data", f"{config.data}, {config.partition}"),
            ("model", config.model),
            ("local", config.local),
            ("rounds", f"{config.rounds}, {config.cohort} clients each"),
            ("output", str(folder)),
        ],
    )


def _jobs(config: Config, schemes: tuple[Scheme, ...]) -> dict[str, Config]:
    """The configuration of each scheme by the name of its folder."""
    jobs: dict[str, Config] = {}
    for scheme in schemes:
        name = files.plain_name(scheme.name)
        if name in jobs:
            raise InputError(
                f"two schemes would share the folder {name!r}; give each its own "
                "name, as in 'NAME=UPLINK'"
            )
        jobs[name] = dataclasses.replace(
            config,
            uplink=scheme.uplink,
            downlink=scheme.downlink or config.downlink,
        )
    return jobs


def _check_folder(folder: Path, jobs: dict[str, Config]) -> None:
    """Raises InputError where the folder holds something else than these runs."""
    if folder.is_file():
        raise InputError(f"output {folder} is a file; give a folder")
    if files.holds_run(folder):
        raise InputError(
            f"{folder} already holds a single run; give another folder with --output"
        )
    files.check_no_grid(folder)
    for name, job in jobs.items():
        place = folder / name / files.CONFIG
        if not place.is_file():
            continue
        found = load_toml(place)
        if other := difference(job, found, left_open(job)):
            raise InputError(
                f"{folder / name} holds a run with other settings: {other}; "
                "give another folder with --output"
            )
