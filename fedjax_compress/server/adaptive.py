"""FedAdagrad, FedAdam and FedYogi: adaptive server steps without bias correction."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.by_round import is_known
from fedjax_compress.server.optimizers import positive
from fedjax_compress.typing import Array, Context, Params, ServerOptimizer, Tree


class Moments(NamedTuple):
    """First and second moments of the mean updates: float32 trees like the params."""

    first: Tree
    second: Tree


@registry.register("server")
def fedadagrad(
    lr: float = 0.1, tau: float = 1e-3, initial: float | None = None
) -> ServerOptimizer:
    """Adagrad at the server.

    v <- v + mean^2;  w <- w + lr * mean / (sqrt(v) + tau).

    Args:
      lr: server learning rate, positive.
      tau: degree of adaptivity, positive; added outside the root.
      initial: value at which v starts; none for tau^2, the least that the paper has.

    Raises:
      InputError: lr or tau not positive.

    Reference: Reddi et al. 2021, algorithm 2, which has v_-1 >= tau^2. Its experiments
    start at 0 (``initial=0.0``), which makes first steps up to twice as long.
    """
    return _adaptive(lr, 0.0, tau, initial, lambda v, u: v + u * u)


@registry.register("server")
def fedadam(
    lr: float = 0.01,
    b1: float = 0.9,
    b2: float = 0.99,
    tau: float = 1e-3,
    initial: float | None = None,
) -> ServerOptimizer:
    """Adam at the server, without bias correction.

    m <- b1 m + (1 - b1) mean;  v <- b2 v + (1 - b2) mean^2;
    w <- w + lr * m / (sqrt(v) + tau).

    Args:
      lr: server learning rate, positive.
      b1, b2: decay rates in [0, 1).
      tau: degree of adaptivity, positive; added outside the root.
      initial: value at which v starts; none for tau^2, the least that the paper has.

    Raises:
      InputError: an option out of its range.

    Reference: Reddi et al. 2021, algorithm 2, which has v_-1 >= tau^2. Its experiments
    start at 0 (``initial=0.0``), which makes first steps up to twice as long.
    """
    rate = _decay("b2", b2)
    return _adaptive(lr, b1, tau, initial, lambda v, u: rate * v + (1 - rate) * u * u)


@registry.register("server")
def fedyogi(
    lr: float = 0.01,
    b1: float = 0.9,
    b2: float = 0.99,
    tau: float = 1e-3,
    initial: float | None = None,
) -> ServerOptimizer:
    """Yogi at the server, without bias correction.

    m <- b1 m + (1 - b1) mean;  v <- v - (1 - b2) mean^2 sign(v - mean^2);
    w <- w + lr * m / (sqrt(v) + tau).

    Args:
      lr: server learning rate, positive.
      b1, b2: decay rates in [0, 1).
      tau: degree of adaptivity, positive; added outside the root.
      initial: value at which v starts; none for tau^2, the least that the paper has.

    Raises:
      InputError: an option out of its range.

    Reference: Reddi et al. 2021, algorithm 2, which has v_-1 >= tau^2. Its experiments
    start at 0 (``initial=0.0``), which makes first steps up to twice as long.
    """
    rate = _decay("b2", b2)

    def second(v: Array, u: Array) -> Array:
        return v - (1 - rate) * u * u * jnp.sign(v - u * u)

    return _adaptive(lr, b1, tau, initial, second)


def _adaptive(
    lr: float, b1: float, tau: float, initial: float | None, second
) -> ServerOptimizer:
    positive("lr", lr)
    positive("tau", tau)
    _decay("b1", b1)
    start = tau * tau if initial is None else initial
    if is_known(start) and not start >= 0:
        raise InputError(f"initial must not be negative, got {initial}")

    def init(params: Params) -> Moments:
        def fill(value: float) -> Tree:
            return jax.tree.map(lambda p: jnp.full(p.shape, value, jnp.float32), params)

        return Moments(fill(0.0), fill(start))

    def apply(
        update: Tree, state: Moments, params: Params, context: Context
    ) -> tuple[Params, Moments]:
        m = jax.tree.map(lambda m, u: b1 * m + (1 - b1) * u, state.first, update)
        v = jax.tree.map(second, state.second, update)
        moved = jax.tree.map(
            lambda p, m, v: p + (lr * m / (jnp.sqrt(v) + tau)).astype(p.dtype),
            params, m, v,
        )  # fmt: skip
        return moved, Moments(m, v)

    return ServerOptimizer(init, apply)


def _decay(name: str, value: float) -> float:
    if is_known(value) and not 0 <= value < 1:
        raise InputError(f"{name} must be in [0, 1), got {value}")
    return value
