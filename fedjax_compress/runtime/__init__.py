"""Checkpoints, processes, compiling, signals: nothing of it changes a number."""

from fedjax_compress.runtime.checkpoint import Checkpoints, CheckpointWarning
from fedjax_compress.runtime.compile_cache import (
    CompileCacheWarning,
    use_compilation_cache,
)
from fedjax_compress.runtime.signals import Stop

__all__ = [
    "CheckpointWarning",
    "Checkpoints",
    "CompileCacheWarning",
    "Stop",
    "use_compilation_cache",
]
