"""The engine: rounds of many clients as one program, evaluation, client states."""

from fedjax_compress.simulate.engine import RunState, Simulator
from fedjax_compress.simulate.evaluate import (
    ClientEvaluator,
    Evaluator,
    PersonalEvaluator,
)

__all__ = [
    "ClientEvaluator",
    "Evaluator",
    "PersonalEvaluator",
    "RunState",
    "Simulator",
]
