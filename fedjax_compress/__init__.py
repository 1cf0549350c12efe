"""A JAX simulator of federated learning with compressed communication."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_compress import (
        aggregate,
        algorithms,
        bench,
        checks,
        cli,
        clients,
        clock,
        compress,
        data,
        errors,
        experiment,
        local,
        models,
        numerics,
        prune,
        quantize,
        registry,
        report,
        runtime,
        server,
        simulate,
        spec,
        submodel,
        tree,
        typing,
        wire,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "aggregate",
    "algorithms",
    "bench",
    "checks",
    "cli",
    "clients",
    "clock",
    "compress",
    "data",
    "errors",
    "experiment",
    "local",
    "models",
    "numerics",
    "prune",
    "quantize",
    "registry",
    "report",
    "runtime",
    "server",
    "simulate",
    "spec",
    "submodel",
    "tree",
    "typing",
    "wire",
]


def __getattr__(name: str) -> Any:
    """Imports a room when it is first used, so that importing the package is light."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
