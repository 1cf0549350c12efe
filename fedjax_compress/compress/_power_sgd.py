"""PowerSGD: a matrix as the product of two thin ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress.stages import flat, nan_unless_finite
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Stage

_DEPENDENT = 1e-5
"""A column of which less than this share is left has no direction of its own."""
_MOST_ITERATIONS = 16


class _Factors(NamedTuple):
    """P is rows x rank, Q is columns x rank."""

    rows: int
    columns: int
    rank: int


@register("stage")
def power_sgd(rank: int = 2, iterations: int = 1, min_ratio: float = 2.0) -> Stage:
    """PowerSGD: low rank, by one step of power iteration from the last round's factor.

    An array is seen as a matrix M whose columns are its last axis: a convolution
    (height, width, in, out) is (height width in) x out. With Q of the round before,

      P = orthonormal columns of M Q;  Q = M^T P;  C(M) = P Q^T = P P^T M.

    Vectors, scalars, and matrices that the factors would hardly shrink travel as they
    are.

    What travels: P and Q as one carrier, 32 rank (rows + columns) bits if nothing
    follows; or the array.

    State: Q, float32 [columns, rank], where the array is factored. It starts at random,
    from the shared key, and so does a column that has become zero. The residual is not
    kept here: the paper's method is ``error_feedback(power_sgd(rank=2))``.

    Args:
      rank: columns of P and Q, at least 1; never more than the matrix has.
      iterations: of both steps, 1 to 16; the paper takes one.
      min_ratio: only matrices of more than min_ratio times as many elements as their
        factors are factored; 0 factors all.

    Raises:
      InputError: an option out of its range.

    Claims: alpha = 0: a projection never adds to the norm of what is lost.

    Reference: Vogels et al. 2019, algorithms 1 and 2.
    Deviation: each client makes and sends both factors by itself. In the paper P is
    averaged over the workers before Q is computed, which takes a second exchange in
    each round and a Q that all share.
    """
    if rank < 1:
        raise InputError(f"rank must be at least 1, not {rank}")
    if not 1 <= iterations <= _MOST_ITERATIONS:
        raise InputError(
            f"iterations must be 1 to {_MOST_ITERATIONS}, not {iterations}"
        )
    if not 0 <= min_ratio < math.inf:
        raise InputError(f"min_ratio must be at least 0 and finite, not {min_ratio}")

    def init(shape):
        plan = _plan(shape.shape, rank, min_ratio)
        return jnp.zeros((plan.columns, plan.rank)) if plan else ()

    def encode(array, state, keys):
        side = {"shape": wire.shape_of(array)}
        plan = _plan(array.shape, rank, min_ratio)
        if not plan:
            return array, side, state
        matrix = flat(array).reshape(plan.rows, plan.columns)
        scale = nan_unless_finite(jnp.max(jnp.abs(matrix)), matrix)
        matrix = matrix / jnp.where(scale == 0, 1, scale)
        fresh = jax.random.normal(keys.shared, state.shape)
        right = state
        for _ in range(iterations):
            left = _orthonormal(_product(matrix, _revived(right, fresh)))
            right = _product(matrix.T, left)
        right = scale * right
        carrier = jnp.concatenate([left.reshape(-1), right.reshape(-1)])
        return carrier, side, right

    def decode(carrier, side, shared):
        shape = side["shape"].shape
        plan = _plan(shape, rank, min_ratio)
        if not plan:
            return carrier
        left, right = jnp.split(flat(carrier), [plan.rows * plan.rank])
        left, right = (x.reshape(-1, plan.rank) for x in (left, right))
        return _product(left, right.T).reshape(shape)

    return Stage(init, encode, decode, Claims(alpha=lambda n: 0.0))


def _plan(shape: tuple[int, ...], rank: int, min_ratio: float) -> _Factors | None:
    """The factors of an array, or None where it travels as it is."""
    if len(shape) < 2 or not math.prod(shape):
        return None
    rows, columns = math.prod(shape[:-1]), shape[-1]
    rank = min(rank, rows, columns)
    if rows * columns <= min_ratio * rank * (rows + columns):
        return None
    return _Factors(rows, columns, rank)


def _product(a: Array, b: Array) -> Array:
    """In full precision on every device: shorter products would not be orthonormal."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _revived(right: Array, fresh: Array) -> Array:
    """Columns of largest magnitude 1; those of zeros replaced, as directions count."""
    largest = jnp.max(jnp.abs(right), axis=0, keepdims=True)
    return jnp.where(largest > 0, right / jnp.where(largest > 0, largest, 1), fresh)


def _orthonormal(matrix: Array) -> Array:
    """Orthonormal columns of the same span; zero where a column adds nothing to it.

    Gram-Schmidt, twice: what the first pass leaves is small where columns are nearly
    parallel, and not orthogonal to them until it has been through the second.
    """

    def column(i: Array, done: Array) -> Array:
        new = _unit(matrix[:, i])[0]
        new, left = _unit(new - _product(done, _product(done.T, new)))
        new, _ = _unit(new - _product(done, _product(done.T, new)))
        return done.at[:, i].set(jnp.where(left > _DEPENDENT, new, 0))

    return jax.lax.fori_loop(0, matrix.shape[1], column, jnp.zeros_like(matrix))


def _unit(vector: Array) -> tuple[Array, Array]:
    """The vector at length 1 (or zero), and its length."""
    length = jnp.sqrt(jnp.sum(vector**2))
    return vector / jnp.where(length > 0, length, 1), length
