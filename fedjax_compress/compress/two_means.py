"""DRIVE+: the rotated array at the two values that suit it best."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress._hadamard import rotation
from fedjax_compress.compress.rotated_blocks import Blocks, blocks_of
from fedjax_compress.compress.stages import nan_unless_finite, relative, stateless
from fedjax_compress.typing import Array, Claims, Stage

_STEPS = 8
"""Of Lloyd's iteration. It starts at the signs, close to the end for Gaussians."""


def two_means_stage(scale: Literal["unbiased", "mmse"], block: int) -> Stage:
    """The stage of ``drive(plus=true)``, which describes it."""
    rotated = rotation(block, shorter=False)

    def encode(array, keys):
        largest, share = relative(array)
        y, side, _ = rotated.encode(share, (), keys)
        assert y is not None  # a rotation always has a carrier
        blocks = blocks_of(y.size, block)
        above, low, high = two_means(y, blocks)
        factor = largest
        if scale == "unbiased":
            q = jnp.where(above, blocks.spread(high), blocks.spread(low))
            along = blocks.sums(q * y)
            factor = largest * blocks.sums(y**2) / jnp.where(along > 0, along, 1)
        values = nan_unless_finite(jnp.stack([factor * low, factor * high]), array)
        return None, {
            "rotation": side,
            "scales": wire.raw(values, "scales"),
            "symbols": wire.raw(above),
        }

    def decode(carrier, side, shared):
        low, high = side["scales"].symbols
        above = side["symbols"].symbols
        blocks = blocks_of(above.size, block)
        y = jnp.where(above, blocks.spread(high), blocks.spread(low))
        return rotated.decode(y, side["rotation"], shared)

    claims = Claims(alpha=lambda n: 1 / n) if scale == "mmse" else Claims()
    return stateless(encode, decode, claims)


def two_means(y: Array, blocks: Blocks) -> tuple[Array, Array, Array]:
    """Which elements take the upper of their block's two values, and both values.

    Lloyd's iteration from the signs: values are the means of their elements, the
    boundary is halfway between. The error never rises. Where all elements lie on one
    side of the boundary, the other value is the boundary itself, and nobody takes it.

    Args:
      y: float32 [n].
      blocks: of these.

    Returns:
      Bool [n]; the lower and the upper values, float32 [blocks].
    """

    def split(boundary: Array) -> tuple[Array, Array, Array]:
        above = y >= blocks.spread(boundary)
        count = blocks.sums(above.astype(jnp.float32))
        rest = blocks.sizes - count
        high = blocks.sums(jnp.where(above, y, 0)) / jnp.maximum(count, 1)
        low = blocks.sums(jnp.where(above, 0, y)) / jnp.maximum(rest, 1)
        return (
            above,
            jnp.where(rest > 0, low, boundary),
            jnp.where(count > 0, high, boundary),
        )

    def step(_: Array, boundary: Array) -> Array:
        _, low, high = split(boundary)
        return (low + high) / 2

    start = jnp.zeros(blocks.number, jnp.float32)
    return split(jax.lax.fori_loop(0, _STEPS, step, start))
