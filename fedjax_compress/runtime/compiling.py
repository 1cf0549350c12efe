"""How programs are compiled: once in a process, for a CPU's widest vector registers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterable
from typing import Any

import jax

_WIDTH = "xla_cpu_prefer_vector_width"
_WIDEST = 512
"""Bits. XLA's own choice is 256, for the sake of older CPUs that slow down for more;
random bits are drawn more than twice as fast with 512 on newer ones."""
_UNKNOWN = "No such compile option"
_MOST = 16
"""Programs that are remembered; those of the last few schemes of a grid."""
_compiled: dict[Hashable, Any] = {}


def compile_once(lowered: Any, devices: Iterable[Any]) -> tuple[Any, str]:
    """The compiled program, and the digest by which it is known.

    A program of the same text, for the same inputs and devices, is not compiled again
    in this process. So runs that differ by nothing but the seed share one: the key, the
    rows and their owners are its inputs.

    Args:
      lowered: what ``jax.jit(f).lower(...)`` gives.
      devices: on which it runs.
    """
    text = digest(lowered)
    inputs = lowered.in_tree, lowered.out_tree, *jax.tree.leaves(lowered.in_avals)
    how = os.environ.get("XLA_FLAGS"), str(jax.config.values)
    key = text, tuple(devices), *inputs, *how
    program = _compiled.pop(key, None) or compile_program(lowered)
    _compiled[key] = program  # the newest stands last
    while len(_compiled) > _MOST:
        del _compiled[next(iter(_compiled))]
    return program, text


def forget() -> None:
    """Lets go of all that ``compile_once`` has compiled."""
    _compiled.clear()


def digest(lowered: Any) -> str:
    """SHA-256 over the text of a lowered program, without places in source files.

    The same in each process that traces the same code with the same versions.
    """
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()


def compile_program(lowered: Any, options: dict[str, Any] | None = None) -> Any:
    """A lowered program compiled; for a CPU with vectors of up to 512 bits.

    A CPU with shorter registers is compiled for as before. What the user has put into
    ``XLA_FLAGS`` stays, but for flags in a file that it names.

    Args:
      lowered: what ``jax.jit(f).lower(...)`` gives.
      options: further options of XLA.
    """
    if jax.devices()[0].platform != "cpu" or _WIDTH in os.environ.get("XLA_FLAGS", ""):
        return lowered.compile(compiler_options=options)
    try:
        return lowered.compile(compiler_options={_WIDTH: _WIDEST, **(options or {})})
    except jax.errors.JaxRuntimeError as error:
        # An XLA without it compiles as it does.
        if _UNKNOWN not in str(error) or _WIDTH not in str(error):
            raise
        return lowered.compile(compiler_options=options)
