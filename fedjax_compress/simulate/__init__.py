"""The engine: chunks, devices, evaluation, checkpoints."""

from fedjax_compress.simulate.checkpoint import Checkpoints, CheckpointWarning
from fedjax_compress.simulate.engine import RunState, Simulator
from fedjax_compress.simulate.evaluate import ClientEvaluator, Evaluator
from fedjax_compress.simulate.signals import Stop

__all__ = [
    "CheckpointWarning",
    "Checkpoints",
    "ClientEvaluator",
    "Evaluator",
    "RunState",
    "Simulator",
    "Stop",
]
