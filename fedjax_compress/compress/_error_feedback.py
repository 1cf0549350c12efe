"""Error feedback: what compression loses is added to the next update."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress import tree
from fedjax_compress.compress.stages import as_sent
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Claims, Compressor


@register("compressor")
def error_feedback(compressor: Compressor, decay: float = 1.0) -> Compressor:
    """Adds to each update what compression lost of those before.

    p = decay e + x, m = encode(p), e' = p - decode(m). The residual e is computed from
    the decoded message, after all casts, so with decay = 1
    sum_t C_t + e_T = sum_t x_t + e_0. What a leaf of 16 bits cannot hold stays in e:
    p is clipped to the range of the leaf's type before it is encoded.

    What travels: what the compressor sends.

    State: the residual, float32 and as large as the tree, for every client id; and the
    compressor's own.

    Args:
      compressor: any, a contraction as a rule. With an unbiased one of large omega
        residuals may grow without bound.
      decay: factor of an aging residual, 0 (none) to 1.

    Raises:
      InputError: decay out of range.

    Claims: lossless and linear if the compressor is. Not unbiased, no contraction: what
    is sent depends on the past.
    """
    if not 0 <= decay <= 1:
        raise InputError(f"decay must be 0 to 1, not {decay}")

    def init(like):
        residual = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), like)
        return {"residual": residual, "compressor": compressor.init(like)}

    def encode(values, state, keys):
        due = jax.tree.map(
            lambda e, x: decay * e + x.astype(jnp.float32), state["residual"], values
        )
        message = jax.tree.map(
            lambda p, x: as_sent(p, x.dtype).astype(x.dtype), due, values
        )
        payload, inner = compressor.encode(message, state["compressor"], keys)
        arrived = compressor.decode(payload, tree.shapes(values), keys.shared)
        residual = jax.tree.map(lambda p, c: p - c.astype(jnp.float32), due, arrived)
        return payload, {"residual": residual, "compressor": inner}

    claims = Claims(
        lossless=compressor.claims.lossless, linear=compressor.claims.linear
    )
    return Compressor(init, encode, compressor.decode, claims)
