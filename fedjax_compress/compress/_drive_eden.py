"""DRIVE and EDEN: rotate, round to the nearest level, scale so that it is unbiased."""

from __future__ import annotations

import math
from typing import Literal

import jax.numpy as jnp
import numpy as np

from fedjax_compress import wire
from fedjax_compress.compress._chain import chain
from fedjax_compress.compress._hadamard import rotation
from fedjax_compress.compress._random_k import random_k
from fedjax_compress.compress.normal_levels import lloyd_max
from fedjax_compress.compress.rotated_blocks import BLOCK, blocks_of
from fedjax_compress.compress.stages import nan_unless_finite, relative, stateless
from fedjax_compress.compress.two_means import two_means_stage
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Stage

LARGEST_BITS = 8
_COMPARED = 15
"""Boundaries that are compared with one by one; more are searched."""


@register("stage")
def drive(
    scale: Literal["unbiased", "mmse"] = "unbiased",
    block: int = BLOCK,
    plus: bool = False,
) -> Stage:
    """DRIVE: the signs of the rotated array, with the scale that makes it unbiased.

    y = R x, a randomized Hadamard rotation of the array's own in blocks (``hadamard``,
    with no shorter ones); with S = ||y||_2**2 / ||y||_1 of each block of y the array
    arrives as R^-1 (S sign(y)), the sign of zero being plus. So <C(x), x> = ||x||**2,
    whatever the rotation. With scale mmse, S = ||y||_1 / m of the m elements of a
    block, the least error. If an element is not finite, all arrive as NaN.

    With plus, DRIVE+: instead of signs, two values of each block's own, the means of
    their elements after eight steps of Lloyd's iteration from the signs, times S =
    ||y||_2**2 / <q, y> where q is y at these values; with mmse S = 1.

    What travels: n bits; for each of the ceil(n / N) blocks of N <= ``block`` elements
    S, 32 bits, or with plus both values, 64 bits. The shared key gives the rotation.

    Args:
      scale: unbiased; or mmse, for use under error_feedback.
      block: largest block of the rotation, a power of two.
      plus: whether the two values are free.

    Raises:
      InputError: block is not a power of two.

    Claims: with scale mmse a contraction with alpha = 1 / n. Unbiased is not claimed:
    it is exact for uniform rotations, and approximate for Hadamard ones, badly so for
    a few elements, or where one holds a good part of a block's energy. Clients must not
    share their rotation, and here they do not.

    Error: pi / 2 - 1 of ||x||**2, with mmse 1 - 2 / pi, once there are many elements;
    with plus about the same then, and with mmse never more than without.

    Reference: Vargaftik et al. 2021 (DRIVE), algorithm 1, and its DRIVE+.
    Deviations: nothing is padded, see ``hadamard``; a scale for each block, where the
    paper rotates the whole array and has one. Blocks differ in energy, so that one
    scale for all would be biased; 32 bits in 131,072 are not noticed.
    """
    if plus:
        return two_means_stage(scale, block)
    return _rotated((np.array([-1.0, 1.0]),), (1.0,), scale, block, "fixed")


@register("stage")
def eden(
    bits: float = 1,
    scale: Literal["unbiased", "mmse"] = "unbiased",
    block: int = BLOCK,
    code: wire.SymbolCode = "fixed",
) -> Stage:
    """EDEN: the rotated array at the best levels for Gaussians, scaled to be unbiased.

    y = R x, a randomized Hadamard rotation of the array's own in blocks (``hadamard``,
    with no shorter ones). In each block of m elements, z = y sqrt(m) / ||y|| is about
    Gaussian, q_i is the level nearest to z_i of the 2**bits that are best for N(0, 1)
    (Lloyd-Max), and S = ||y||**2 / <q, y>; the array arrives as R^-1 (S q). So
    <C(x), x> = ||x||**2, whatever the rotation. With scale mmse, S = <q, y> / ||q||**2,
    the least error. If an element is not finite, all arrive as NaN.

    What travels: n * bits bits when fixed; for each of the ceil(n / N) blocks of
    N <= ``block`` elements S, 32 bits. The shared key gives the rotation. Between whole
    numbers of bits, the first ceil(n (bits - floor(bits))) elements of q take one bit
    more than the others. Below 1, a share ``bits`` of the elements is sent, by
    ``random_k(bits) | eden(1)``.

    Args:
      bits: for an element, above 0 and at most 8.
      scale: unbiased; or mmse, for use under error_feedback.
      block: largest block of the rotation, a power of two.
      code: of the symbols, see ``uniform``; the outer levels are rare, which huffman
        and arithmetic make use of.

    Raises:
      InputError: bits out of range, block is not a power of two, or more symbols than
        the code takes.

    Claims: with scale mmse and a whole number of bits a contraction with
    alpha = 4 a b / ((a + b)**2 n), a and b the least and the largest magnitude of a
    level. Of a block of m elements <q, y>**2 / ||q||**2 is kept, at least
    ||q||_1**2 ||y||_1**2 / (m ||q||)**2, since |q| grows with |y| (Chebyshev), and
    ||q||_1**2 / (m ||q||**2) is at least 4 a b / (a + b)**2 (Polya and Szego). Unbiased
    is not claimed, see ``drive``. Clients must not share their rotation, and here they
    do not.

    Error: with D the distortion of the levels, D / (1 - D) of ||x||**2, and D with
    mmse, once there are many elements: 0.571, 0.133, 0.0358 and 0.00959 for 1 to 4
    bits.

    Reference: Vargaftik et al. 2022 (EDEN).
    Deviations: nothing is padded, see ``hadamard``; a scale for each block, see
    ``drive``. Which elements take one bit more is
    fixed, not drawn: the rotation has drawn already. The share below 1 is exact.
    """
    if not 0 < bits <= LARGEST_BITS:
        raise InputError(f"bits must be above 0 and at most {LARGEST_BITS}, not {bits}")
    if bits < 1:
        return chain(random_k(bits), eden(1, scale, block, code))
    low = math.floor(bits)
    widths = (low,) if low == bits else (low + 1, low)
    shares = (1.0,) if low == bits else (bits - low, 1.0)
    for width in widths:
        wire.check_code(code, 2**width)
    return _rotated([lloyd_max(b) for b in widths], shares, scale, block, code)


def _rotated(tables, shares, scale, block, code) -> Stage:
    """The stage with these levels, each for a share of the elements that are left."""
    rotated = rotation(block, shorter=False)
    tables = [np.asarray(levels, np.float32) for levels in tables]

    def encode(array, keys):
        largest, share = relative(array)
        y, side, _ = rotated.encode(share, (), keys)
        assert y is not None  # a rotation always has a carrier
        blocks = blocks_of(y.size, block)
        power = blocks.sums(y**2)
        z = y * blocks.spread(jnp.sqrt(blocks.sizes / jnp.where(power > 0, power, 1)))
        fields = []
        for part, levels in zip(_parts(z, shares), tables, strict=True):
            symbols = _nearest(part, levels).astype(jnp.uint8)
            fields.append(wire.Field(symbols, len(levels), code))
        q = _values(fields, tables)
        along = blocks.sums(q * y)
        if scale == "unbiased":
            factor = power / jnp.where(along > 0, along, 1)
        else:
            factor = along / blocks.sums(q**2)
        factor = nan_unless_finite(largest * factor, array)
        return None, {
            "rotation": side,
            "scales": wire.raw(factor, "scales"),
            "symbols": fields,
        }

    def decode(carrier, side, shared):
        q = _values(side["symbols"], tables)
        q = q * blocks_of(q.size, block).spread(side["scales"].symbols)
        return rotated.decode(q, side["rotation"], shared)

    def alpha(n: int) -> float:
        a, b = float(tables[0][len(tables[0]) // 2]), float(tables[0][-1])
        return 4 * a * b / ((a + b) ** 2 * n)

    contracts = scale == "mmse" and len(tables) == 1
    return stateless(encode, decode, Claims(alpha=alpha if contracts else None))


def _parts(vector: Array, shares: tuple[float, ...]) -> list[Array]:
    """The vector cut in order, ceil(share * n) of the n elements left each time."""
    parts = []
    for share in shares:
        cut = math.ceil(round(share * vector.size, 6))
        parts.append(vector[:cut])
        vector = vector[cut:]
    return parts


def _nearest(z: Array, levels: np.ndarray) -> Array:
    """The number of the level nearest to each element, int32; the upper one of two."""
    edges = (levels[1:] + levels[:-1]) / 2
    method = "compare_all" if len(edges) <= _COMPARED else "scan"
    return jnp.searchsorted(jnp.asarray(edges), z, side="right", method=method)


def _values(fields: list[wire.Field], tables: list[np.ndarray]) -> Array:
    """The levels of all elements, float32 [n]."""
    parts = []
    for field, levels in zip(fields, tables, strict=True):
        parts.append(jnp.asarray(levels)[field.symbols])
    return jnp.concatenate(parts) if len(parts) > 1 else parts[0]
