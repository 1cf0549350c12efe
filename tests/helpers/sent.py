"""What one client sends in rounds that follow each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import compress, wire
from fedjax_compress.typing import Keys


def rounds(text, updates):
    """(decoded, state, bits) of each round of one client, as numpy."""
    compressor = compress.parse(text)
    state = compressor.init(updates[0])

    def one(x, state, keys):
        payload, state = compressor.encode(x, state, keys)
        return compressor.decode(payload, x, keys.shared), state, wire.bits(payload)

    one = jax.jit(one)
    for t, x in enumerate(updates):
        keys = Keys(jax.random.key(t), jax.random.key(1000 + t))
        decoded, state, bits = one(jnp.asarray(x), state, keys)
        residual = jax.tree.map(np.asarray, jax.tree.leaves(state))
        yield np.asarray(decoded), residual[0] if residual else None, int(bits)


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
