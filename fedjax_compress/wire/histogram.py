"""How often each symbol occurs, inside jit."""

from __future__ import annotations

import jax.numpy as jnp

from fedjax_compress.typing import Array

_FEW = 16


def histogram(symbols: Array, alphabet: int) -> Array:
    """The number of each symbol, as int32 [alphabet].

    A few symbols are counted by comparing: a scatter, which goes symbol by symbol, is
    slower on every device.
    """
    symbols = symbols.reshape(-1).astype(jnp.int32)
    if alphabet <= _FEW:
        each = [jnp.sum(symbols == a, dtype=jnp.int32) for a in range(alphabet)]
        return jnp.stack(each)
    return jnp.zeros(alphabet, jnp.int32).at[symbols].add(1)
