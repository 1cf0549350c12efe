"""QSGD: stochastic signed levels, relative to the norm of a bucket."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import (
    flat,
    nan_unless_finite,
    quotient,
    round_up_or_down,
    stateless,
)
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Stage

LARGEST_BITS = 16


@register("stage")
def qsgd(
    bits: int = 4,
    bucket: int = 512,
    norm: Literal["max", "l2"] = "max",
    code: wire.SymbolCode = "fixed",
) -> Stage:
    """QSGD: stochastic signed levels relative to the norm of each bucket.

    In a bucket with norm r, a_i = |x_i| s / r and l_i = floor(a_i) or floor(a_i) + 1 at
    random so that E[l_i] = a_i; C(x)_i = r sign(x_i) l_i / s, with
    s = 2**(bits - 1) - 1. A bucket of zeros stays zero; one with an element that is not
    finite arrives as NaN.

    What travels: n symbols of 2 s + 1, in zigzag order 0, 1, -1, 2, -2, ... (n * bits
    bits when fixed); one float32 norm for each bucket. The last, short bucket sends
    only the symbols it has. stream is the paper's: for each level that is not zero its
    distance from the one before, its sign and its magnitude (``wire.codes.stream``).

    Args:
      bits: a symbol's width, 2 to 16, the sign included.
      bucket: elements that share a norm.
      norm: max, better at fixed width; or l2, whose many zeros codes of several
        lengths make short.
      code: of the symbols; stream, huffman, arithmetic or zero_runs for many zeros;
        best, the shortest but for stream.

    Raises:
      InputError: bits or bucket out of range, or more symbols than the code takes.

    Claims: elementwise, unbiased; with d = min(n, bucket),
    omega = min(d / s**2, sqrt(d) / s) for l2 and
    min(d / (4 s**2), (1 + sqrt(d)) / (2 s)) for max.

    Reference: Alistarh et al. 2017, equation for Q_s, section on bucketing, and the
    max-norm variant of the experiments.
    Deviations: the stream runs through all buckets, so that one closing gap ends it;
    elias codes every symbol, zeros too.
    """
    if not 2 <= bits <= LARGEST_BITS:
        raise InputError(f"bits must be 2 to {LARGEST_BITS}, not {bits}")
    if bucket < 1:
        raise InputError(f"bucket must be at least 1, not {bucket}")
    s = 2 ** (bits - 1) - 1
    wire.check_code(code, 2 * s + 1)

    def encode(array, keys):
        n = array.size
        rows = _buckets(flat(array), min(bucket, n))
        scale = (_max_norm if norm == "max" else _l2_norm)(rows)
        scale = nan_unless_finite(scale, rows, -1)
        levels = _levels(rows, scale, s, keys.private)
        zigzag = jnp.where(levels > 0, 2 * levels - 1, -2 * levels)
        symbols = zigzag.reshape(-1)[:n].reshape(array.shape)
        alphabet = 2 * s + 1
        field = wire.Field(symbols.astype(wire.smallest(alphabet)), alphabet, code)
        return None, {"scales": wire.raw(scale, "scales"), "symbols": field}

    def decode(carrier, side, shared):
        zigzag = side["symbols"].symbols.astype(jnp.int32)
        odd = zigzag % 2 == 1
        levels = jnp.where(odd, zigzag // 2 + 1, -(zigzag // 2)).astype(jnp.float32)
        d = min(bucket, zigzag.size)
        scale = jnp.repeat(side["scales"].symbols, d)[: zigzag.size]
        return scale.reshape(zigzag.shape) * (levels / s)

    def omega(n: int) -> float:
        d = min(n, bucket)
        if norm == "l2":
            return min(d / s**2, d**0.5 / s)
        return min(d / (4 * s**2), (1 + d**0.5) / (2 * s))

    claims = Claims(unbiased=True, omega=omega, elementwise=True)
    return stateless(encode, decode, claims)


def _buckets(vector: Array, bucket: int) -> Array:
    """The vector in rows of ``bucket``, the last filled up with zeros."""
    rows = -(-vector.size // bucket)
    return jnp.pad(vector, (0, rows * bucket - vector.size)).reshape(rows, bucket)


def _max_norm(rows: Array) -> Array:
    return jnp.max(jnp.abs(rows), axis=-1)


def _l2_norm(rows: Array) -> Array:
    """Norms computed relative to the maximum: no overflow, no underflow on the way."""
    largest = _max_norm(rows)
    share = quotient(rows, largest[:, None])
    norm = largest * jnp.linalg.norm(share, axis=-1)
    return jnp.minimum(norm, jnp.finfo(jnp.float32).max)


def _levels(rows: Array, scale: Array, s: int, key: Array) -> Array:
    """Signed integer levels in -s .. s."""
    position = quotient(jnp.abs(rows), scale[:, None]) * s
    levels = jnp.clip(round_up_or_down(position, key), 0, s).astype(jnp.int32)
    return jnp.where(rows < 0, -levels, levels)
