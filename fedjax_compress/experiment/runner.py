"""Starts a run in a folder."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedjax_compress.data import Dataset
from fedjax_compress.experiment import loop, show
from fedjax_compress.experiment.build import (
    Parts,
    build,
    laid_out,
    request_devices,
)
from fedjax_compress.experiment.callbacks import Callbacks
from fedjax_compress.experiment.config import Config, recorded, validate
from fedjax_compress.experiment.fingerprint import fingerprint
from fedjax_compress.experiment.loop import Summary
from fedjax_compress.experiment.toml import dump_toml
from fedjax_compress.registry import imports
from fedjax_compress.report import files
from fedjax_compress.report.progress import make_console
from fedjax_compress.runtime import distributed


def run(
    config: Config,
    output: str | Path | None = None,
    *,
    quiet: bool = False,
    brief: bool = False,
    dataset: Dataset | None = None,
    callbacks: Sequence[Any] = (),
) -> Summary:
    """Runs a configuration into a folder and returns its summary.

    Args:
      config: what to run; objects in it are recorded by their names only.
      output: a folder that holds no run yet; None makes the next free
        ``runs/DATA-NNN``.
      quiet: show nothing.
      brief: show progress only, without what comes before and after.
      dataset: the data, if they have been loaded already.
      callbacks: objects that are told of rounds and scores, and may end the run; see
        ``Callback``.

    Raises:
      InputError: something cannot work; raised before anything compiles, and the
        folder is left as it was.
      Diverged: the server's model is not usable any more; the folder has the records
        up to there and the last checkpoint before, and a summary that says so.
      Stopped: SIGTERM or Ctrl-C; the run is saved and can be resumed.
    """
    validate(config)
    request_devices(config.devices)
    link = distributed.link()
    told = Callbacks(callbacks, link.leads)
    console = make_console(quiet or not link.leads)
    if output is not None:
        link.lead(lambda: files.check_free(Path(output)))
    parts = build(config, dataset, console.print)
    state = parts.simulator.start(parts.params)
    config = laid_out(recorded(config), parts)
    link.same(everything(config, parts), "settings or data")
    with contextlib.ExitStack() as stack:

        def begin() -> str:
            if output is None:
                folder = files.next_free(files.plain_name(parts.dataset.name))
            else:
                folder = Path(output)
                files.create(folder)
            stack.enter_context(files.held(folder))
            files.check_free(folder)  # again: another one may have started meanwhile
            files.write_atomically(folder / files.CONFIG, dump_toml(config))
            return str(folder)

        folder = Path(link.lead(begin))
        files.check_shared(folder)
        if not brief:
            show.header(console, config, parts, folder)
        return loop.go_on(config, parts, state, folder, console, brief, told)


def everything(config: Config, parts: Parts) -> dict[str, Any]:
    """What all processes of a run must have alike."""
    found = fingerprint(config, parts) | imports.digests()
    return found | dataclasses.asdict(config) | {"imports": None}  # places may differ
