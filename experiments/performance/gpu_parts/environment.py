"""The peak of matrix products, in three kinds of numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

from gpu_parts.measuring import Figure, Options, Piece, repeated, spread

KINDS = {
    "bf16": ("bfloat16", "default"),
    "tf32": ("float32", "tensorfloat32"),
    "f32": ("float32", "highest"),
}
"""Type of the operands, and the precision asked for. A CPU takes tf32 for f32."""
_PRODUCTS = 8


def environment(options: Options) -> list[Piece]:
    """A piece for each kind."""
    size, seconds = (512, 0.1) if options.quick else (8192, 1.5)
    return [
        Piece(f"product, {kind}", partial(_peak, kind, size, seconds)) for kind in KINDS
    ]


def _peak(kind: str, size: int, seconds: float) -> Iterator[Figure]:
    """``_PRODUCTS`` products one after another, each of the result before."""
    dtype, precision = KINDS[kind]
    keys = jax.random.split(jax.random.key(0))
    # Scaled so that what is multiplied again and again keeps its size.
    a, b = (jax.random.normal(k, (size, size), dtype) for k in keys)
    b = (b / size**0.5).astype(dtype)

    def work(a: jax.Array, b: jax.Array) -> jax.Array:
        with jax.default_matmul_precision(precision):
            return jax.lax.fori_loop(0, _PRODUCTS, lambda _, x: jnp.matmul(x, b), a)

    begin = time.perf_counter()
    program = jax.jit(work).lower(a, b).compile()
    compiled = time.perf_counter() - begin

    def rate() -> float:
        begin = time.perf_counter()
        program(a, b).block_until_ready()
        return 2 * size**3 * _PRODUCTS / (time.perf_counter() - begin) / 1e12

    rate()
    yield {
        "name": f"product of {size} x {size}, {kind}",
        "teraflops": spread(repeated(rate, seconds)),
        "compile_seconds": round(compiled, 2),
    }
