"""Elements at random positions that both ends know."""

from __future__ import annotations

import math

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import check_fraction, kept, stateless
from fedjax_compress.numerics.shuffle import permute
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Key, Stage


@register("stage")
def random_k(fraction: float, rescale: bool = True) -> Stage:
    """k = max(1, ceil(fraction n)) elements at random, at positions both ends know.

    C(x)_i = x_i n / k (x_i without rescale) for i in a uniform k-subset that is drawn
    from the shared key, else 0. The values are the carrier, in the order of the draw.

    What travels: k values (32 k bits if nothing follows); positions cost nothing.

    Args:
      fraction: share of elements kept, above 0, at most 1.
      rescale: multiply by n / k, which makes it unbiased. Use false under error
        feedback.

    Raises:
      InputError: fraction out of range.

    Claims: linear. With rescale unbiased, omega = n / k - 1; without it a contraction
    with alpha = k / n.
    """
    check_fraction(fraction)

    def encode(array, keys):
        vector = array.reshape(-1)
        places = positions(keys.shared, vector.size, fraction)
        return vector[places], {"shape": wire.shape_of(array)}

    def decode(carrier, side, shared):
        shape = side["shape"].shape
        n = math.prod(shape)
        places = positions(shared, n, fraction)
        full = jnp.zeros(n, carrier.dtype).at[places].set(carrier, unique_indices=True)
        k = kept(fraction, n)
        if rescale and k < n:
            full = full.astype(jnp.float32) * (n / k)
        return full.reshape(shape)

    def share(n: int) -> float:
        return kept(fraction, n) / n

    everything = fraction == 1
    claims = Claims(
        unbiased=rescale or everything,
        omega=(lambda n: 1 / share(n) - 1) if rescale or everything else None,
        alpha=share if everything or not rescale else None,
        lossless=everything,
        linear=True,
    )
    return stateless(encode, decode, claims)


def positions(key: Key, n: int, fraction: float) -> Array:
    """The images of 0 .. k-1 under a random permutation of 0 .. n-1."""
    k = kept(fraction, n)
    order = jnp.arange(k, dtype=jnp.int32)
    return order if k == n else permute(key, order, n, unroll=False)
