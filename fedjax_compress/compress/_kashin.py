"""Kashin's representation: a few more coefficients, none of them large."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import wire
from fedjax_compress.compress._hadamard import RUN, rotate
from fedjax_compress.compress.stages import flat, stateless
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.shuffle import permute
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Key, Stage

_SIGNS, _POSITIONS = 0, 1
_SMALLEST = 32
"""Elements of a block that lie side by side, as ``rotate`` has it; least block."""
_SLACK = 1.1
"""Blocks are halved until rounding to whole blocks costs at most this factor."""
_MOST_REDUNDANCY, _MOST_ITERATIONS = 16, 100


class _Plan(NamedTuple):
    """``blocks`` frames of ``size`` coefficients for ``rows`` elements each."""

    size: int
    blocks: int
    rows: int


@register("stage")
def kashin(
    redundancy: float = 1.25,
    eta: float = 0.9,
    delta: float = 1.0,
    iterations: int = 3,
    block: int = 32768,
) -> Stage:
    """Kashin's representation: more coefficients than elements, all about as large.

    In each block, U = P D H / sqrt(N) is a tight frame, U U^T = I: H of N rows, D
    random signs, and P takes the rows at m < N random positions. Of all a with
    U a = x the encoder finds one with small max |a|: from a = 0, r = x,
    M = ||x|| / sqrt(delta N) it repeats

      a = a + clip(U^T r, -M, M);  r = x - U a;  M = eta M

    and at last adds U^T r without clipping, so that U a = x. Decoding is U a. Small
    extremes are what a following quantizer likes: ``kashin | uniform(bits=1)``.

    The elements are dealt to the blocks in turn, m to each; with fewer in the last row,
    zeros stand in. N is the largest power of two up to ``block`` for which whole blocks
    take at most 1.1 redundancy n coefficients; or, if none from 32 on does, the one
    that takes the fewest.

    What travels: nothing but the carrier of N times blocks coefficients, which is
    redundancy n to 1.1 redundancy n for large n, more for a few elements; signs and
    positions follow from the shared key.

    Args:
      redundancy: coefficients for each element, above 1, at most 16.
      eta: factor of the level M, above 0, below 1.
      delta: above 0, at most 1; a smaller one starts from a higher level.
      iterations: T, clipped steps, 1 to 100.
      block: largest N, a power of two of at least 32.

    Raises:
      InputError: an option out of its range.

    Claims: unbiased, linear, alpha = 1 (up to rounding): by itself it loses nothing.
    omega = T is a bound for chains: what follows adds an error relative to ||a||^2,
    and ||a||^2 <= (1 + T) ||x||^2, because clipping parts b into two vectors of no
    negative product.

    Reference: Lyubarskii and Vershynin 2010; Caldas et al. 2018, section 2.
    Deviation: positions are random. With x at the front and n <= N / 2, two halves of
    the coefficients are the same and nothing is gained. Blocks, where the papers take
    one frame of the whole vector and pad up to four times its length.
    """
    if not 1 < redundancy <= _MOST_REDUNDANCY:
        raise InputError(
            f"redundancy must be above 1 and at most {_MOST_REDUNDANCY}, "
            f"not {redundancy}"
        )
    if not 0 < eta < 1:
        raise InputError(f"eta must be above 0 and below 1, not {eta}")
    if not 0 < delta <= 1:
        raise InputError(f"delta must be above 0 and at most 1, not {delta}")
    if not 1 <= iterations <= _MOST_ITERATIONS:
        raise InputError(
            f"iterations must be 1 to {_MOST_ITERATIONS}, not {iterations}"
        )
    if block < _SMALLEST or block & (block - 1):
        raise InputError(
            f"block must be a power of two and at least {_SMALLEST}, not {block}"
        )

    def encode(array, keys):
        vector, side = flat(array), {"shape": wire.shape_of(array)}
        plan = _plan(vector.size, redundancy, block)
        signs, positions = _draw(keys.shared, plan)
        padding = plan.rows * plan.blocks - vector.size
        rows = jnp.pad(vector, (0, padding)).reshape(plan.rows, plan.blocks)
        target = _place(rows, positions, plan) * signs
        taken = _place(jnp.ones((plan.rows, 1)), positions, plan._replace(blocks=1))
        level = _norms(target) / (delta * plan.size) ** 0.5
        return _represent(target, taken, level, eta, iterations).reshape(-1), side

    def decode(carrier, side, shared):
        shape = side["shape"].shape
        n = math.prod(shape)
        plan = _plan(n, redundancy, block)
        signs, positions = _draw(shared, plan)
        grid = _turn(flat(carrier).reshape(signs.shape)) * signs
        rows = grid.swapaxes(1, 2).reshape(plan.size, plan.blocks)[positions]
        return rows.reshape(-1)[:n].reshape(shape)

    claims = Claims(
        unbiased=True,
        omega=lambda n: float(iterations),
        alpha=lambda n: 1.0,
        linear=True,
    )
    return stateless(encode, decode, claims)


def _plan(n: int, redundancy: float, block: int) -> _Plan:
    wanted = math.ceil(round(redundancy * n, 6))
    size = min(block, 1 << max(wanted - 1, 1).bit_length())
    sizes = [size]
    while size > _SMALLEST:
        size //= 2
        sizes.append(size)
    totals = [-(-wanted // size) * size for size in sizes]
    most = max(_SLACK * wanted, min(totals))
    size, total = next(
        pair for pair in zip(sizes, totals, strict=True) if pair[1] <= most
    )
    return _Plan(size, total // size, -(-n * size // total))


def _draw(key: Key, plan: _Plan) -> tuple[Array, Array]:
    """Random signs [N / r, blocks, r], and m random positions below N."""
    run = min(plan.size, RUN)
    shape = (plan.size // run, plan.blocks, run)
    signs = jax.random.rademacher(jax.random.fold_in(key, _SIGNS), shape, jnp.float32)
    order = jnp.arange(plan.rows, dtype=jnp.int32)
    key = jax.random.fold_in(key, _POSITIONS)
    return signs, permute(key, order, plan.size, unroll=False)


def _place(rows: Array, positions: Array, plan: _Plan) -> Array:
    """Rows [m, blocks] at their positions of N, zeros elsewhere: [N / r, blocks, r]."""
    run = min(plan.size, RUN)
    full = (
        jnp.zeros((plan.size, plan.blocks)).at[positions].set(rows, unique_indices=True)
    )
    return full.reshape(-1, run, plan.blocks).swapaxes(1, 2)


def _turn(grid: Array) -> Array:
    """H / sqrt(N) in every block of [N / r, blocks, r]."""
    size = grid.shape[0] * grid.shape[2]
    return rotate(grid.reshape(-1), size).reshape(grid.shape)


def _norms(grid: Array) -> Array:
    """Each block's norm [1, blocks, 1], without overflow of the squares."""
    largest = jnp.max(jnp.abs(grid), (0, 2), keepdims=True)
    shares = grid / jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.sum(shares**2, (0, 2), keepdims=True))


def _represent(
    target: Array, taken: Array, level: Array, eta: float, iterations: int
) -> Array:
    """Coefficients a with U a = x.

    All in the space of N: the target holds x with its signs at the positions, and
    ``taken`` is 1 there, so that U a is taken * H a.
    """

    def step(i: Array, carry: tuple) -> tuple:
        coefficients, rest, level = carry
        coefficients = coefficients + jnp.clip(_turn(rest), -level, level)
        rest = target - taken * _turn(coefficients)
        return coefficients, rest, level * eta

    start = (jnp.zeros_like(target), target, level)
    coefficients, rest, _ = jax.lax.fori_loop(0, iterations, step, start)
    return coefficients + _turn(rest)
