"""Count sketches: sums of elements under random signs in a few random cells."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import flat, nan_unless_finite, stateless
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Key, Stage

LARGEST_ROWS = 15


@register("stage")
def count_sketch(rows: int = 5, columns: int = 1000) -> Stage:
    """Count sketch: a table that is linear in the array, decoded by medians.

    S[j, h_j(i)] += s_j(i) x_i in each row j, with cells h_j and signs s_j drawn from
    the shared key; C(x)_i = median_j s_j(i) S[j, h_j(i)]. The table is the carrier. An
    array of no more elements than the table travels as it is.

    What travels: the table, 32 rows columns bits if nothing follows; or the array.

    Args:
      rows: an odd number, 1 to 15.
      columns: cells of a row, at least 1.

    Raises:
      InputError: an option out of its range.

    Claims: with one row linear and unbiased, omega = (n - 1) / columns (0 where the
    array travels). With more rows none: sketches are still linear, but medians are
    not, and have a small bias where collisions are skewed. No contraction, so not to
    be put under ``error_feedback``: residuals grow. ``fetch_sgd`` keeps them instead.

    Reference: Charikar, Chen and Farach-Colton 2002; Rothchild et al. 2020.
    Deviation: cells and signs are independent random numbers, where the papers compute
    polynomials modulo a prime: the same guarantees and more. For all clients to share
    them see the algorithm ``fetch_sgd``.
    """
    check_table(rows, columns)

    def encode(array, keys):
        side = {"shape": wire.shape_of(array)}
        if array.size <= rows * columns:
            return array, side
        return sketch(flat(array), keys.shared, rows, columns), side

    def decode(carrier, side, shared):
        shape = side["shape"].shape
        n = math.prod(shape)
        if n <= rows * columns:
            return carrier
        return unsketch(carrier.astype(jnp.float32), shared, n).reshape(shape)

    def omega(n: int) -> float:
        return (n - 1) / columns if n > columns else 0.0

    if rows > 1:
        return stateless(encode, decode)
    return stateless(encode, decode, Claims(unbiased=True, omega=omega, linear=True))


def check_table(rows: int, columns: int) -> None:
    """Raises an InputError unless a table may have this shape."""
    if not 1 <= rows <= LARGEST_ROWS or rows % 2 == 0:
        raise InputError(f"rows must be odd, 1 to {LARGEST_ROWS}, not {rows}")
    if columns < 1:
        raise InputError(f"columns must be at least 1, not {columns}")


def cells(key: Key, n: int, rows: int, columns: int) -> tuple[Array, Array]:
    """Cell and sign of each element in each row: int32 and float32 [rows, n]."""
    words = jax.random.bits(key, (rows, n), jnp.uint32)
    signs = 1 - 2 * (words & 1).astype(jnp.int32).astype(jnp.float32)
    return ((words >> 1) % columns).astype(jnp.int32), signs


def sketch(vector: Array, key: Key, rows: int, columns: int) -> Array:
    """The table of a vector [n], float32 [rows, columns]; linear in the vector.

    S[j, h_j(i)] += s_j(i) x_i.
    """
    places, signs = cells(key, vector.size, rows, columns)
    row = jnp.arange(rows)[:, None]
    return jnp.zeros((rows, columns)).at[row, places].add(signs * vector[None])


def unsketch(table: Array, key: Key, n: int) -> Array:
    """Estimates of all n elements, float32 [n]: the median over rows.

    median_j s_j(i) S[j, h_j(i)]; NaN where a cell that it rests on is not finite.
    """
    rows, columns = table.shape
    places, signs = cells(key, n, rows, columns)
    found = signs * jnp.take_along_axis(table, places, axis=1)
    return nan_unless_finite(_median(list(found)), found, 0)


def _median(rows: list[Array]) -> Array:
    """The middle of an odd number of arrays, element by element.

    Neighbours are put in order in turn, as many times as there are rows. Sorting along
    so short an axis takes longer.
    """
    for start in range(len(rows)):
        for i in range(start % 2, len(rows) - 1, 2):
            low, high = jnp.minimum(*rows[i : i + 2]), jnp.maximum(*rows[i : i + 2])
            rows[i : i + 2] = [low, high]
    return rows[len(rows) // 2]
