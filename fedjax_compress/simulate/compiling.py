"""How programs are compiled: for the widest vector registers that a CPU has."""

from __future__ import annotations

import os
from typing import Any

import jax

_WIDTH = "xla_cpu_prefer_vector_width"
_WIDEST = 512
"""Bits. XLA's own choice is 256, for the sake of older CPUs that slow down for more;
random bits are drawn more than twice as fast with 512 on newer ones."""
_UNKNOWN = "No such compile option"


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
