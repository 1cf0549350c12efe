"""The process of one part: its pieces one after another, a JSON line for each fact."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import signal
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_parts.measuring import Options, Piece

_HOMES = {
    "environment": "environment",
    "w1": "workloads",
    "w2": "workloads",
    "overhead": "overhead",
    "memory": "workloads",
    "flute": "recipes",
    "pfl": "recipes",
    "grativol": "grativol",
}
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_LONGEST = 300


def serve(name: str, quick: bool, data: Path | None, seconds: float) -> int:
    """Runs the pieces of a part; 0 even if some fail, for each failure is told."""
    # Whatever libraries print goes to stderr: stdout is for facts.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(**line: Any) -> None:
        print(json.dumps(line), file=channel, flush=True)

    # Should nobody be left who kills it.
    signal.alarm(math.ceil(seconds) + 1)
    options = Options.begin(quick, data, seconds)
    tell(about=about())
    module = importlib.import_module(f"gpu_parts.{_HOMES[name]}")
    pieces: list[Piece] = getattr(module, name)(options)
    tell(pieces=[piece.name for piece in pieces])
    for piece in pieces:
        _work(piece, tell)
    return 0


def _work(piece: Piece, tell: Callable[..., None]) -> None:
    try:
        for figure in piece.measure():
            tell(figure=figure)
    except Exception as error:  # whatever it is: the next piece may work
        words = " ".join(str(error).split())[:_LONGEST]
        tell(failed=piece.name, error=f"{type(error).__name__}: {words}")
    else:
        tell(done=piece.name)


def about() -> dict[str, Any]:
    """Versions and device."""
    import jax

    import fedjax_compress

    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return {
        "python": platform.python_version(),
        "fedjax_compress": fedjax_compress.__version__,
        **{name: _version(name) for name in _LIBRARIES},
        "platform": device.platform,
        "platform_version": " ".join(device.client.platform_version.split()),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "device_memory_mb": None if limit is None else round(limit / 1e6),
        "cores": os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", "").strip(),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
