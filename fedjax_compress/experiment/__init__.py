"""Experiments: typed configuration, runs, records, callbacks, grids."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_compress.experiment.callbacks import Callback, Run
    from fedjax_compress.experiment.config import Config, validate
    from fedjax_compress.experiment.grid import SCHEMES, Grid, Scheme, load_grid
    from fedjax_compress.experiment.gridding import compare, resume_grid, run_grid
    from fedjax_compress.experiment.resuming import resume, trained
    from fedjax_compress.experiment.runner import run
    from fedjax_compress.experiment.saving import ProgramWarning
    from fedjax_compress.experiment.stopped import Stopped, StopRun
    from fedjax_compress.experiment.toml import dump_toml, load_toml

__all__ = [
    "SCHEMES",
    "Callback",
    "Config",
    "Grid",
    "ProgramWarning",
    "Run",
    "Scheme",
    "StopRun",
    "Stopped",
    "compare",
    "dump_toml",
    "load_grid",
    "load_toml",
    "resume",
    "resume_grid",
    "run",
    "run_grid",
    "trained",
    "validate",
]

_HOMES = {
    "SCHEMES": "grid",
    "Callback": "callbacks",
    "Config": "config",
    "Grid": "grid",
    "ProgramWarning": "saving",
    "Run": "callbacks",
    "Scheme": "grid",
    "StopRun": "stopped",
    "Stopped": "stopped",
    "compare": "gridding",
    "dump_toml": "toml",
    "load_grid": "grid",
    "load_toml": "toml",
    "resume": "resuming",
    "resume_grid": "gridding",
    "run": "runner",
    "run_grid": "gridding",
    "trained": "resuming",
    "validate": "config",
}


def __getattr__(name: str) -> Any:
    """Imports a module when its name is first used: the command line starts fast."""
    if name in _HOMES:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        value = getattr(module, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
