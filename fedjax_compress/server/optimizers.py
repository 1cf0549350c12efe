"""Server optimizers: the mean update is a negative gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax as library

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.numerics import by_round as rounds
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.registry.libraries import optimizer
from fedjax_compress.typing import Array, Context, Params, ServerOptimizer, State, Tree


def by_round(make: Callable[[Array], ServerOptimizer]) -> ServerOptimizer:
    """The server's step of each round, as one.

    Args:
      make: number of the round, traced -> its step; all keep the same state.
    """

    def apply(
        update: Tree, state: State, params: Params, context: Context
    ) -> tuple[Params, State]:
        return make(context.round).apply(update, state, params, context)

    def init(params: Params) -> State:
        return make(jnp.zeros((), jnp.int32)).init(params)

    return ServerOptimizer(init, apply)


rounds.register("server", by_round)


def from_optax(transformation: library.GradientTransformation) -> ServerOptimizer:
    """Any optax gradient transformation, fed with minus the mean update.

    Reference: Reddi et al. 2021, algorithm 1 (FedOpt).
    """

    def apply(
        update: Tree, state: State, params: Params, context: Context
    ) -> tuple[Params, State]:
        grads = jax.tree.map(
            lambda u, p: jnp.negative(u).astype(p.dtype), update, params
        )
        with as_written():
            moves, state = transformation.update(grads, state, params)
            return library.apply_updates(params, moves), state

    def init(params: Params) -> State:
        with as_written():
            return transformation.init(params)

    return ServerOptimizer(init, apply)


@registry.register("server")
def fedavg(lr: float = 1.0) -> ServerOptimizer:
    """Adds lr times the mean update; lr = 1 is FedAvg.

    w <- w + lr * mean.

    Raises:
      InputError: lr is not positive.

    Reference: McMahan et al. 2017, algorithm 1.
    """
    return from_optax(library.sgd(positive("lr", lr)))


@registry.register("server")
def fedavgm(
    lr: float = 1.0, momentum: float = 0.9, nesterov: bool = False
) -> ServerOptimizer:
    """FedAvg with momentum at the server.

    m <- momentum * m + mean;  w <- w + lr * m.

    Raises:
      InputError: lr is not positive or momentum outside [0, 1).

    Reference: Hsu et al. 2019.
    """
    if rounds.is_known(momentum) and not 0 <= momentum < 1:
        raise InputError(f"momentum must be in [0, 1), got {momentum}")
    return from_optax(library.sgd(positive("lr", lr), momentum, nesterov))


@registry.register("server")
def optax(name: str, lr: float, **options: int | float | bool) -> ServerOptimizer:
    """Any optimizer of optax at the server, as in optax(adamw, lr=0.01).

    Args:
      name: a function of optax that takes a learning rate, such as adam or lion.
      lr: learning rate, positive.
      options: further keyword arguments of that function; whole numbers stay whole.

    Raises:
      InputError: unknown optimizer or option, an option given twice, or an optimizer
        that needs more than gradients, as lbfgs and dpsgd do.
    """
    return from_optax(optimizer(library, name, positive("lr", lr), options))


def positive(name: str, value: float) -> float:
    """The value, or an InputError that names it."""
    if rounds.is_known(value) and not 0 < value < math.inf:
        raise InputError(f"{name} must be positive and finite, got {value}")
    return value
