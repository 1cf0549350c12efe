"""The engine: chunks, devices, evaluation, checkpoints."""

from fedjax_compress.simulate.checkpoint import Checkpoints, CheckpointWarning
from fedjax_compress.simulate.compile_cache import (
    CompileCacheWarning,
    use_compilation_cache,
)
from fedjax_compress.simulate.engine import RunState, Simulator
from fedjax_compress.simulate.evaluate import ClientEvaluator, Evaluator
from fedjax_compress.simulate.signals import Stop

__all__ = [
    "CheckpointWarning",
    "Checkpoints",
    "ClientEvaluator",
    "CompileCacheWarning",
    "Evaluator",
    "RunState",
    "Simulator",
    "Stop",
    "use_compilation_cache",
]
