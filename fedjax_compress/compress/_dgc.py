"""Deep Gradient Compression: momentum before the largest elements are taken."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress.compress.sparse_fields import (
    Indices,
    flat_magnitudes,
    strided,
    values,
)
from fedjax_compress.compress.stages import as_sent, kept
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.bitset import marked, pack_mask
from fedjax_compress.numerics.ranking import Cut, above, cut, kth_largest
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Key, Stage

LEAST = 1000
"""Elements of a sample, at least; arrays of fewer are looked at in full."""


@register("stage")
def dgc(
    sparsity: float = 0.999,
    momentum: float = 0.9,
    masking: bool = True,
    clip: float = 0.0,
    nesterov: bool = False,
    sample: float = 1.0,
    indices: Indices = "golomb",
) -> Stage:
    """Deep Gradient Compression: local momentum, then the largest of what is due.

    u <- momentum u + x; v <- v + u (nesterov: u <- momentum (u + x); v <- v + u + x);
    the k = max(1, ceil((1 - sparsity) n)) elements of v of largest magnitude are sent
    exactly, set to zero in v, and with masking in u too. Momentum belongs here: use
    none at the server. With a sample, every s-th element from a random start gives a
    threshold; all that reach it are sent, but the k largest of them if they are more
    than k. At sparsity 0 it is SGD with momentum, without masking, or plain SGD, with.

    What travels: the number of elements sent in ceil(log2(n + 1)) bits, their positions
    and their values, 32 bits each (16 for arrays of 16 bits). Zeros are not sent.

    State: u and v, float32, each as large as the array. No error feedback around it.
    u is stale where a client takes part seldom: momentum 0 is then the safer choice.

    Args:
      sparsity: share of elements that stay, 0 to below 1. The paper raises it: 0.75,
        0.9375, 0.984, 0.996, 0.999 in the first epochs.
      momentum: 0 to below 1.
      masking: whether u is set to zero where an element is sent.
      clip: largest 2-norm of x; larger ones are scaled to it; 0 means no limit. The
        paper takes the threshold for the mean of K clients times K**-0.5.
      nesterov: Nesterov's momentum.
      sample: share of elements that gives the threshold, 1 for the exact one; at
        least 1000 and 2 / (1 - sparsity) elements, or all.
      indices: code of the positions; runs is the paper's, 16 bits each.

    Raises:
      InputError: an option out of range.

    Claims: none, since what is sent depends on the past.

    Reference: Lin et al., Deep gradient compression, ICLR 2018, algorithm 1 and
    section 3. Deviations: the threshold is exact by default, which takes no longer here
    than the paper's sample of 0.1 to 1 percent; never more than k elements are sent,
    where the paper accepts some more.
    """
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must be 0 to below 1, not {sparsity}")
    if not 0 <= momentum < 1:
        raise InputError(f"momentum must be 0 to below 1, not {momentum}")
    if not clip >= 0:
        raise InputError(f"clip must be at least 0, not {clip}")
    if not 0 < sample <= 1:
        raise InputError(f"sample must be above 0 and at most 1, not {sample}")

    def init(shape):
        zeros = jnp.zeros(shape.shape, jnp.float32)
        return {"momentum": zeros, "due": zeros}

    def encode(array, state, keys):
        x = _clipped(array.astype(jnp.float32), clip)
        if nesterov:
            u = momentum * (state["momentum"] + x)
            v = state["due"] + u + x
        else:
            u = momentum * state["momentum"] + x
            v = state["due"] + u
        mask = _chosen(flat_magnitudes(v), 1 - sparsity, sample, keys.private)
        mask = mask.reshape(v.shape)
        field = values(v, mask, array.dtype, indices)
        arrived = as_sent(field.symbols.astype(jnp.float32), array.dtype)
        after = {"momentum": jnp.where(mask & masking, 0, u), "due": v - arrived}
        return None, {"values": field}, after

    def decode(carrier, side, shared):
        return side["values"].symbols

    return Stage(init, encode, decode)


def _clipped(x: Array, limit: float) -> Array:
    """x with a 2-norm of at most the limit; computed without overflow."""
    if not limit:
        return x
    top = jnp.max(jnp.abs(x))
    safe = jnp.where(top > 0, top, 1)
    norm = jnp.linalg.norm((x / safe).reshape(-1))
    return jnp.where(norm * safe > limit, x / safe * (limit / norm), x)


def _chosen(size: Array, density: float, sample: float, key: Key) -> Array:
    """Which elements are sent, at most kept(density, n); never zeros.

    Args:
      size: patterns of the magnitudes, [n].
      density: share that is sent.
      sample: share of elements that gives the threshold.
      key: of the sample's start.
    """
    n, k = size.size, kept(density, size.size)
    some = strided(size, sample, max(LEAST, round(2 / density)), key)
    if k == n or some.size == n:
        return above(size, cut(size, k)) & (size > 0)
    threshold = kth_largest(some, kept(density, some.size))
    passed = marked(pack_mask(size >= threshold))

    # A loop of at most one round: under vmap a condition would always do its work.
    def again(now: Any) -> Any:
        return cut(size, k), jnp.zeros((), bool)

    start = Cut(threshold, jnp.full((), n, jnp.int32)), passed > k
    found, _ = jax.lax.while_loop(lambda now: now[1], again, start)
    return above(size, found) & (size > 0)
