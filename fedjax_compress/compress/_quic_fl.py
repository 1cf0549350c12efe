"""QUIC-FL: rotate, send what is large as it is, round the rest without bias."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import wire
from fedjax_compress.compress._hadamard import rotation
from fedjax_compress.compress.normal_levels import unbiased_levels
from fedjax_compress.compress.rotated_blocks import BLOCK, blocks_of
from fedjax_compress.compress.stages import nan_unless_finite, relative, stateless
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Claims, Stage

LARGEST_BITS = 8


@register("stage")
def quic_fl(
    bits: int = 1, block: int = BLOCK, code: wire.SymbolCode = "fixed"
) -> Stage:
    """QUIC-FL: rotated, large elements as they are, the others rounded without bias.

    y = R x, a randomized Hadamard rotation in blocks (``hadamard``, with no shorter
    ones); in each block of m elements z = y sqrt(m) / ||y|| is about Gaussian. Elements
    with |z| > T arrive exactly; T = 3.097, beyond which N(0, 1) has 1 / 512. Others
    arrive at the level below or above, at random so that the expectation is z; the
    2**bits levels from -T to T are those of least expected variance under N(0, 1). If
    an element is not finite, all arrive as NaN.

    What travels: n symbols of ``bits`` bits when fixed; the elements beyond T in code
    sparse_golomb, about 43 / 512 bits for each of the n; ||y|| / sqrt(m) of each block,
    32 bits.

    Args:
      bits: a symbol's width, 1 to 8.
      block: largest block of the rotation, a power of two.
      code: of the symbols, see ``uniform``; the outer levels are rare, which huffman
        and arithmetic make use of.

    Raises:
      InputError: bits out of range, block is not a power of two, or more symbols than
        the code takes.

    Claims: unbiased, whatever the rotation; omega = (w / 2)**2 with w the widest gap
    between levels, T**2 for one bit. For many elements the error is 8.597 with one bit.

    Reference: Ben Basat et al. 2024 (QUIC-FL).
    Deviations: the variant without shared randomness of the rounding, which has more
    variance (1.52 with 6 shared bits; the paper's figure for this one is 8.58). A scale
    for each block, see ``drive``. The paper's clients share one rotation, so that the
    server undoes it once; here each has its own, like everything that the shared key
    gives.
    """
    if not 1 <= bits <= LARGEST_BITS:
        raise InputError(f"bits must be 1 to {LARGEST_BITS}, not {bits}")
    wire.check_code(code, 2**bits)
    rotated = rotation(block, shorter=False)
    levels = unbiased_levels(bits).astype(np.float32)
    limit = levels[-1]

    def encode(array, keys):
        largest, share = relative(array)
        y, side, _ = rotated.encode(share, (), keys)
        assert y is not None  # a rotation always has a carrier
        blocks = blocks_of(y.size, block)
        unit = jnp.sqrt(blocks.sums(y**2) / blocks.sizes)
        z = y * blocks.spread(1 / jnp.where(unit > 0, unit, 1))
        below = jnp.searchsorted(jnp.asarray(levels[1:-1]), z, side="right")
        low, high = jnp.asarray(levels)[below], jnp.asarray(levels)[below + 1]
        draw = jax.random.uniform(keys.private, z.shape)
        symbols = jnp.where(draw * (high - low) < z - low, below + 1, below)
        scale = nan_unless_finite(largest * unit, array)
        return None, {
            "large": wire.Field(
                jnp.where(jnp.abs(z) > limit, z, 0.0), 2**32, "sparse_golomb"
            ),
            "rotation": side,
            "scales": wire.raw(scale, "scales"),
            "symbols": wire.Field(symbols.astype(jnp.uint8), 2**bits, code),
        }

    def decode(carrier, side, shared):
        large = side["large"].symbols
        z = jnp.asarray(levels)[side["symbols"].symbols]
        z = jnp.where(large != 0, large, z)
        z = z * blocks_of(z.size, block).spread(side["scales"].symbols)
        return rotated.decode(z, side["rotation"], shared)

    widest = float(np.diff(levels).max())
    claims = Claims(unbiased=True, omega=lambda n: widest**2 / 4)
    return stateless(encode, decode, claims)
