"""Quantizers of one weight array: codes, the values they stand for, and gradients.

Gradients are straight-through: rounding counts as the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Key

LARGEST_BITS = 16
PLAIN = 32
"""Bits of float32, which mean: not quantized."""
_LEAST = 1e-10
_LEAST_STEP = 1e-6


class Codes(NamedTuple):
    """An array as integers.

    Attributes:
      symbols: int32 in 0 .. levels - 1, of the shape of the array.
      scale: float32 that broadcasts against it; None if both ends know it.
    """

    symbols: Array
    scale: Array | None


class WeightQuantizer(NamedTuple):
    """What training with quantized weights computes with, and how it travels.

    ``learned`` is what is trained besides the weights (LSQ's step), or None.

    Attributes:
      levels: number of values that a weight can take.
      view: (weights, learned, key or None) -> float32 of the same shape, what the layer
        computes with, with straight-through gradients. Without a key: what is
        evaluated.
      codes: (weights, learned, key) -> Codes.
      values: (Codes, learned) -> latent weights of which ``view`` makes what the codes
        stand for: these themselves, except where they do not view as themselves.
      keeps_zeros: whether a weight of 0 is viewed as 0.
      keeps_scale: whether weights c times as large are viewed as c times as large.
      extend: weights -> ``learned`` at the start; None where nothing is.
      constrain: weights -> weights after a local step; None for no change.
      constrain_learned: likewise of ``learned``.
      begin: weights -> those before the first round; None for no change.
    """

    levels: int
    view: Callable[[Array, Array | None, Key | None], Array]
    codes: Callable[[Array, Array | None, Key], Codes]
    values: Callable[[Codes, Array | None], Array]
    keeps_zeros: bool
    keeps_scale: bool
    extend: Callable[[Array], Array] | None = None
    constrain: Callable[[Array], Array] | None = None
    constrain_learned: Callable[[Array], Array] | None = None
    begin: Callable[[Array], Array] | None = None


def round_through(x: Array) -> Array:
    """The nearest whole number, halves to even; the gradient is that of x."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def check_bits(name: str, bits: int, least: int) -> None:
    """Raises InputError unless least <= bits <= 16 or bits = 32."""
    if not least <= bits <= LARGEST_BITS and bits != PLAIN:
        raise InputError(
            f"{name} must be {least} to {LARGEST_BITS} bits, or {PLAIN} for none, "
            f"not {bits}"
        )


def narrow_integers(
    bits: int, scale: Literal["tensor", "channel"], scale_gradient: bool
) -> WeightQuantizer:
    """Symmetric integers of a narrow range, scaled by the largest magnitude.

    Q = 2^(b-1) - 1, s = max(max|w|, 1e-10) / Q, q = round(w / s), w^ = s q.

    Args:
      bits: b, 2 to 16.
      scale: one s for the array, or one for each output channel, the last axis.
      scale_gradient: whether the gradient also goes through s to the largest weight:
        dL/dw_j = g_j + [j largest] sign(w_j) / Q sum_i g_i (q_i - w_i / s). Those that
        tie share it.
    """
    largest = 2 ** (bits - 1) - 1

    def over(reduce, x: Array) -> Array:
        axes = tuple(range(x.ndim - 1)) if scale == "channel" else None
        return reduce(x, axis=axes, keepdims=True)

    def top_of(w: Array) -> Array:
        return over(jnp.max, jnp.abs(w))

    def scale_of(top: Array) -> Array:
        return jnp.maximum(top, _LEAST) / largest

    def integers(w: Array, s: Array) -> Array:
        return jnp.clip(jnp.round(w / s), -largest, largest)

    # By hand, in fewer passes over the weights. First derivatives in reverse mode only.
    @jax.custom_vjp
    def made(w: Array) -> Array:
        return forward(w)[0]

    def forward(w):
        top = top_of(w)
        s = scale_of(top)
        found = integers(w, s) * s
        return found, (w, found, top)

    def backward(kept, g):
        if not scale_gradient:
            return (g,)
        w, found, top = kept
        at = jnp.abs(w) == top
        slope = over(jnp.sum, g * (found - w)) / jnp.maximum(top, _LEAST)
        share = slope / over(jnp.sum, at.astype(g.dtype))
        return (g + jnp.where(at & (top > _LEAST), jnp.sign(w) * share, 0),)

    made.defvjp(forward, backward)

    def view(w, learned, key):
        return made(w)

    def codes(w, learned, key):
        s = scale_of(top_of(w))
        return Codes((integers(w, s) + largest).astype(jnp.int32), s)

    def values(found, learned):
        return (found.symbols - largest).astype(jnp.float32) * found.scale

    return WeightQuantizer(2 * largest + 1, view, codes, values, True, True)


def binary_values(
    stochastic: bool, bound: float, zero: Literal["plus", "zero"], binary_start: bool
) -> WeightQuantizer:
    """BinaryConnect: -H or H, and latent weights clipped to -H .. H.

    Args:
      stochastic: H with probability clip((w / H + 1) / 2, 0, 1); else the sign.
      bound: H, above 0.
      zero: what an exact zero becomes: H, or 0, a third level.
      binary_start: whether latent weights start as their signs times H.
    """
    levels = 3 if zero == "zero" else 2

    def symbols(w: Array, key: Key | None) -> Array:
        if stochastic and key is not None:
            share = jnp.clip((w / bound + 1) / 2, 0, 1)
            up = jax.random.uniform(key, w.shape) < share
        else:
            up = w >= 0
        if levels == 2:
            return up.astype(jnp.int32)
        return jnp.where(w == 0, 1, 2 * up.astype(jnp.int32))

    def values(found, learned):
        steps = 2 * found.symbols - 1 if levels == 2 else found.symbols - 1
        return steps.astype(jnp.float32) * bound

    def view(w, learned, key):
        if stochastic and key is None:
            return jnp.clip(w, -bound, bound)
        made = values(Codes(symbols(w, key), None), None)
        return _through(made, w)

    def codes(w, learned, key):
        return Codes(symbols(w, key), None)

    def begin(w: Array) -> Array:
        return values(Codes(symbols(w, None), None), None)

    return WeightQuantizer(
        levels, view, codes, values, zero == "zero", False,
        constrain=lambda w: jnp.clip(w, -bound, bound),
        begin=begin if binary_start else None,
    )  # fmt: skip


def learned_step(bits: int) -> WeightQuantizer:
    """LSQ: integers times a step that is trained.

    w^ = s round(clip(w / s, -Q_n, Q_p)), Q_n = 2^(b-1), Q_p = 2^(b-1) - 1.
    dw^/dw is 1 inside the range, else 0; dw^/ds is round(w / s) - w / s inside, -Q_n
    below and Q_p above, and is multiplied by 1 / sqrt(n Q_p) for n weights. At the
    start s = 2 mean|w| / sqrt(Q_p).

    Args:
      bits: b, 2 to 16.
    """
    low, high = 2 ** (bits - 1), 2 ** (bits - 1) - 1

    def step(learned: Array, axes: int) -> Array:
        # Whatever has moved it, a step has a size, and a gradient that leads back.
        return jnp.maximum(jnp.abs(learned), _LEAST).reshape((1,) * axes)

    @jax.custom_vjp
    def made(w: Array, s: Array) -> Array:
        return s * jnp.round(jnp.clip(w / s, -low, high))

    def forward(w, s):
        return made(w, s), (w, s)

    def backward(kept, g):
        w, s = kept
        v = w / s
        inside = (v >= -low) & (v <= high)
        slope = jnp.where(inside, jnp.round(v) - v, jnp.where(v < 0, -low, high))
        slow = 1.0 / (w.size * high) ** 0.5
        return jnp.where(inside, g, 0), slow * jnp.sum(g * slope).reshape(s.shape)

    made.defvjp(forward, backward)

    def view(w, learned, key):
        return made(w, step(learned, w.ndim))

    def codes(w, learned, key):
        q = jnp.round(jnp.clip(w / step(learned, w.ndim), -low, high))
        return Codes((q + low).astype(jnp.int32), None)

    def values(found, learned):
        whole = (found.symbols - low).astype(jnp.float32)
        return step(learned, whole.ndim) * whole

    def extend(w: Array) -> Array:
        return (2 * jnp.mean(jnp.abs(w)) / high**0.5).reshape(1)

    return WeightQuantizer(
        2**bits, view, codes, values, True, False, extend,
        constrain_learned=lambda s: jnp.maximum(jnp.abs(s), _LEAST_STEP),
    )  # fmt: skip


def dorefa_values(bits: int) -> WeightQuantizer:
    """DoReFa's weights: sign(w) mean|w| for one bit, else an even grid of tanh(w).

    k > 1: w^ = 2 q(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1 with
    q(r) = round((2^k - 1) r) / (2^k - 1). Codes are read as arctanh(w^ tanh(1)), of
    which the same w^ is made. k = 1: the mean counts as a constant, the
    gradient is that of w, and sign(0) = 1.

    Args:
      bits: k, 1 to 16.
    """
    steps = 2**bits - 1
    if bits == 1:

        def one_code(w, learned, key):
            mean = jnp.mean(jnp.abs(w)).reshape((1,) * w.ndim)
            return Codes((w >= 0).astype(jnp.int32), mean)

        def one_value(found, learned):
            return (2 * found.symbols - 1).astype(jnp.float32) * found.scale

        def one_view(w, learned, key):
            return _through(one_value(one_code(w, None, None), None), w)

        return WeightQuantizer(2, one_view, one_code, one_value, False, True)

    def place(w: Array) -> Array:
        squashed = jnp.tanh(w)
        top = jnp.maximum(jnp.max(jnp.abs(squashed)), _LEAST)
        return round_through((squashed / top * 0.5 + 0.5) * steps)

    def view(w, learned, key):
        return 2 * (place(w) / steps) - 1

    def codes(w, learned, key):
        return Codes(place(w).astype(jnp.int32), None)

    def values(found, learned):
        # The largest is viewed as 1 or -1, so that tanh(1) is the largest of tanh(w).
        grid = 2 * (found.symbols.astype(jnp.float32) / steps) - 1
        return jnp.arctanh(grid * jnp.tanh(1.0))

    return WeightQuantizer(steps + 1, view, codes, values, False, False)


@jax.custom_jvp
def _through(made: Array, w: Array) -> Array:
    """``made`` with the gradient of w."""
    return made


@_through.defjvp
def _through_jvp(primals, tangents):
    made, _ = primals
    _, moved = tangents
    return made, moved
