"""The engine: rounds of many clients as one program, evaluation, client states."""

from fedjax_compress.simulate.engine import RunState, Simulator
from fedjax_compress.simulate.evaluate import ClientEvaluator, Evaluator

__all__ = [
    "ClientEvaluator",
    "Evaluator",
    "RunState",
    "Simulator",
]
