"""DRIVE+: the rotated array at the two values that suit it best."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.rotation import hadamard
from fedjax_compress.compress.stages import nan_unless_finite, relative, stateless
from fedjax_compress.typing import Array, Claims, Stage

_STEPS = 8
"""Of Lloyd's iteration. It starts at the signs, close to the end for Gaussians."""


def two_means_stage(scale: Literal["unbiased", "mmse"], block: int) -> Stage:
    """The stage of ``drive(plus=true)``, which describes it."""
    rotation = hadamard(block)

    def encode(array, coin):
        largest, share = relative(array)
        y, side, _ = rotation.encode(share, (), coin)
        above, low, high = two_means(y)
        factor = largest
        if scale == "unbiased":
            along = jnp.sum(jnp.where(above, high, low) * y)
            factor = largest * jnp.sum(y**2) / jnp.where(along > 0, along, 1)
        values = nan_unless_finite(factor * jnp.stack([low, high]), array)
        return None, {
            "rotation": side,
            "scales": wire.raw(values, "scales"),
            "symbols": wire.raw(above),
        }

    def decode(carrier, side, shared):
        low, high = side["scales"].symbols
        y = jnp.where(side["symbols"].symbols, high, low)
        return rotation.decode(y, side["rotation"], shared)

    claims = Claims(alpha=lambda n: 1 / n) if scale == "mmse" else Claims()
    return stateless(encode, decode, claims)


def two_means(y: Array) -> tuple[Array, Array, Array]:
    """Which elements take the upper of two values, and both values.

    Lloyd's iteration from the signs: values are the means of their elements, the
    boundary is halfway between. The error never rises. Where all elements lie on one
    side of the boundary, the other value is the boundary itself, and nobody takes it.
    """

    def split(boundary: Array) -> tuple[Array, Array, Array]:
        above = y >= boundary
        count = jnp.sum(above)
        many, few = (jnp.maximum(c, 1).astype(y.dtype) for c in (count, y.size - count))
        high = jnp.sum(jnp.where(above, y, 0)) / many
        low = jnp.sum(jnp.where(above, 0, y)) / few
        return (
            above,
            jnp.where(count < y.size, low, boundary),
            jnp.where(count > 0, high, boundary),
        )

    def step(_: Array, boundary: Array) -> Array:
        _, low, high = split(boundary)
        return (low + high) / 2

    return split(jax.lax.fori_loop(0, _STEPS, step, jnp.zeros(())))
