"""A counter-based generator of random bits that is cheap to compile and to run.

Stochastic rounding draws one number for each parameter of each client. JAX's default
generator, Threefry, takes 20 rounds for two words and a second of compile time for
every few draws in a program; here a word costs two rounds of an integer mixer. It is
an ordinary implementation behind typed keys: all of ``jax.random`` works with it, and
``root_key(seed, "threefry2x32")`` is there to check a result with the other.

A key is two words k0, k1. Word i of its stream is mix(mix(i ^ k0) ^ k1). Folding in a
number is a bijection of keys for every number, and of numbers for every key.

The parts are jitted, so that a program that draws in many places traces them once for
each shape: half of a start's tracing went here and into ``shuffle``.

Reference: the mixer is the two-multiplication 32-bit hash ``lowbias32`` of Wellons
(2018), whose constants were found by search for least bias (from memory).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Key

GENERATORS = ("mix", "threefry2x32")
_GOLDEN = np.uint32(0x9E3779B9)
_SPLIT = np.uint32(0x85EBCA6B)


@jax.jit
def mix(x: Array) -> Array:
    """A bijection of 32-bit words in which each input bit reaches all others."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


@jax.jit
def _fold_in(key: Array, data: Any) -> Array:
    data = jnp.asarray(data).astype(jnp.uint32)
    a = mix(key[0] ^ mix(data ^ _GOLDEN))
    b = mix(key[1] ^ mix(data + _SPLIT))
    low = mix(a ^ (b * _GOLDEN))
    return jnp.stack([low, mix(b ^ mix(low ^ _SPLIT))])


@jax.jit
def _seed(seed: Array) -> Array:
    seed = jnp.asarray(seed)
    low = seed.astype(jnp.uint32)
    wide = seed.dtype.itemsize > 4
    high = (seed >> 32).astype(jnp.uint32) if wide else jnp.zeros_like(low)
    return _fold_in(jnp.stack([low, high]), _GOLDEN)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    numbers = jnp.arange(int(np.prod(shape)), dtype=jnp.uint32)
    base = _fold_in(key, _SPLIT)
    return jax.vmap(lambda n: _fold_in(base, n))(numbers).reshape(*shape, 2)


def _random_bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    if bit_width not in (8, 16, 32):
        raise InputError(
            f"the generator gives words of 8, 16 or 32 bits, not {bit_width}"
        )
    index = jax.lax.iota(jnp.uint32, int(np.prod(shape))).reshape(shape)
    words = mix(mix(index ^ key[0]) ^ key[1])
    return words if bit_width == 32 else words.astype(f"uint{bit_width}")


_MIX: Any = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="mix",
    tag="mix",
)


def root_key(seed: int, generator: str = "mix") -> Key:
    """The key from which all randomness of a run descends.

    Args:
      seed: any integer of 0 .. 2**32 - 1.
      generator: ``mix``, or JAX's own ``threefry2x32``.

    Raises:
      InputError: seed out of range, or unknown generator.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed must be 0 to {2**32 - 1}, not {seed}")
    if generator not in GENERATORS:
        raise InputError(f"unknown generator {generator!r}; known: mix, threefry2x32")
    word = np.uint32(seed)
    return jax.random.key(word, impl=_MIX if generator == "mix" else generator)
