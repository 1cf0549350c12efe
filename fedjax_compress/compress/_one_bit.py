"""1-bit SGD's quantizer: a bit for each element, two values for each column."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import nan_unless_finite, stateless
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Stage


@register("stage")
def one_bit(columns: bool = True, threshold: Literal["zero", "mean"] = "zero") -> Stage:
    """1-bit SGD's quantizer: a bit an element, two values a column.

    A column is what one output unit takes in: the array as a matrix whose last axis is
    the output, (inputs, outputs) of a dense kernel, (height * width * inputs, outputs)
    of a convolution. Arrays of less than two axes are one column. In each column, with
    threshold zero: b_i = [x_i >= 0], and C(x)_i is the mean of all x_j with b_j = b_i;
    a class without elements has mean 0. With threshold mean: b_i = [x_i >= m], m the
    column's mean, and C(x)_i = m + d or m - d, d the mean of |x - m|.

    The paper's method is ``error_feedback(one_bit)``: without what this keeps back, it
    diverges. A column with an element that is not finite arrives as NaN.

    What travels: n bits; the two values of each column, 64 bits.

    Args:
      columns: false for one pair of values for the whole array.
      threshold: zero; or mean, a switch of the authors' code, whose two values are
        symmetric about the mean.

    Claims: elementwise; a contraction with alpha = 1 / n. The values keep
    sum(x_+)**2 / n_+ and sum(x_-)**2 / n_- of the power, which is at least
    ||x||_1**2 / n. With threshold mean they keep n m**2 + ||x - m||_1**2 / n, at least
    ||x||_2**2 / n, too. Gaussian columns lose 1 - 2 / pi.

    Reference: Seide et al. 2014; the authors' ColumnQuantizer.
    Deviation: means are over all elements of a column, none is estimated from a sample.
    """
    values = _class_means if threshold == "zero" else _about_the_mean

    def view(array):
        wide = columns and array.ndim > 1
        return array.reshape(-1, array.shape[-1] if wide else 1)

    def encode(array, keys):
        rows = view(array.astype(jnp.float32))
        upper, pair = values(rows)
        pair = nan_unless_finite(pair, rows, 0)
        bits = wire.raw(upper.reshape(array.shape))
        return None, {"scales": wire.raw(pair, "scales"), "symbols": bits}

    def decode(carrier, side, shared):
        upper = side["symbols"].symbols
        low, high = side["scales"].symbols
        return jnp.where(view(upper), high, low).reshape(upper.shape)

    return stateless(encode, decode, Claims(alpha=lambda n: 1 / n, elementwise=True))


def _class_means(rows: Array) -> tuple[Array, Array]:
    """[x >= 0], and the means of the elements below and above, [2, columns].

    Elements are divided before they are summed, which no sum of theirs can overflow.
    """
    upper = rows >= 0
    high = jnp.maximum(jnp.sum(upper, 0), 1)
    low = jnp.maximum(rows.shape[0] - jnp.sum(upper, 0), 1)
    share = rows / jnp.where(upper, high, low).astype(rows.dtype)
    means = [jnp.sum(jnp.where(upper == b, share, 0), 0) for b in (False, True)]
    return upper, jnp.stack(means)


def _about_the_mean(rows: Array) -> tuple[Array, Array]:
    """[x >= m], and m - d and m + d, [2, columns]."""
    middle = jnp.sum(rows / rows.shape[0], 0)
    spread = jnp.sum(jnp.abs(rows - middle[None]) / rows.shape[0], 0)
    return rows >= middle[None], jnp.stack([middle - spread, middle + spread])
