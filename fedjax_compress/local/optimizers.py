"""Local updates by name: SGD, FedProx, and any optimizer of optax."""

from __future__ import annotations

import math
from typing import Literal

import optax as library

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.local import train as training
from fedjax_compress.local.steps import Last, schedule
from fedjax_compress.local.train import train
from fedjax_compress.numerics import by_round
from fedjax_compress.numerics.by_round import is_known
from fedjax_compress.registry.libraries import RATE, call_by_name, optimizer, takes_key
from fedjax_compress.typing import Context, LocalUpdate, Model

State = Literal["fresh", "kept"]


@registry.register("local", context=1)
def sgd(
    model: Model,
    lr: float = 0.1,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    epochs: int = 1,
    steps: int = 0,
    batch: int = 20,
    last: Last = "keep",
    shuffle: bool = True,
) -> LocalUpdate:
    """Stochastic gradient descent on the client's own rows.

    m <- momentum * m + g + weight_decay * w;  w <- w - lr * m.

    Args:
      model: the model to train.
      lr: learning rate, positive.
      momentum: in [0, 1); starts from zero each round.
      nesterov: Nesterov's form of the momentum.
      weight_decay: added to the gradient as weight_decay * w.
      epochs: passes over the client's rows.
      steps: number of steps, instead of epochs, if not 0.
      batch: rows a batch; larger than the client means all of its rows in one batch.
      last: keep (masked) or drop an incomplete last batch of an epoch.
      shuffle: a fresh order each epoch.

    Raises:
      InputError: an option out of its range.
    """
    return fedprox(
        model, 0.0, lr, momentum, nesterov, weight_decay, epochs, steps, batch, last,
        shuffle,
    )  # fmt: skip


@registry.register("local", context=1)
def fedprox(
    model: Model,
    mu: float = 0.01,
    lr: float = 0.1,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    epochs: int = 1,
    steps: int = 0,
    batch: int = 20,
    last: Last = "keep",
    shuffle: bool = True,
) -> LocalUpdate:
    """SGD with FedProx's proximal term mu/2 ||v - w||^2; mu = 0 is sgd.

    Args:
      model: the model to train.
      mu: weight of the proximal term, not negative; the others as in ``sgd``.

    Raises:
      InputError: an option out of its range.

    Reference: Li et al. 2020, equation 2.
    """
    _positive("lr", lr)
    if is_known(momentum) and not 0 <= momentum < 1:
        raise InputError(f"momentum must be in [0, 1), got {momentum}")
    for name, value in (("mu", mu), ("weight_decay", weight_decay)):
        if is_known(value) and not value >= 0:
            raise InputError(f"{name} must not be negative, got {value}")
    if nesterov and not _used(momentum):
        raise InputError("nesterov needs momentum above 0, for example momentum=0.9")
    kept = momentum if _used(momentum) else None
    step = library.sgd(lr, momentum=kept, nesterov=nesterov)
    if _used(weight_decay):
        step = library.chain(library.add_decayed_weights(weight_decay), step)
    return train(model, step, schedule(epochs, steps, batch, last, shuffle), mu)


@registry.register("local", context=1)
def optax(
    model: Model,
    name: str,
    lr: float,
    mu: float = 0.0,
    epochs: int = 1,
    steps: int = 0,
    batch: int = 20,
    last: Last = "keep",
    shuffle: bool = True,
    state: State = "fresh",
    **options: int | float | bool,
) -> LocalUpdate:
    """Any optimizer of optax by its name, as in optax(adam, lr=0.001, b1=0.9).

    Args:
      model: the model to train.
      name: a function of optax that takes a learning rate, such as adam or adamw.
      lr: learning rate, positive.
      mu: weight of FedProx's proximal term.
      epochs, steps, batch, last, shuffle: as in ``sgd``.
      state: of the optimizer: fresh in each round, or kept by the client; where clients
        train submodels, what is kept belongs to a place, whichever unit stands there.
      options: further keyword arguments of that function; whole numbers stay whole. An
        optimizer that draws, as noisy_sgd does, gets a key of the client and round,
        unless a ``key`` is given, which is then the same for all of them.

    Raises:
      InputError: unknown optimizer or option, an option given twice, or an optimizer
        that needs more than gradients, as lbfgs and dpsgd do; or the state kept of one
        that draws, whose key is another in each round.
    """
    _positive("lr", lr)
    keyed = takes_key(library, name) and not {"key", "seed"} & set(options)
    if keyed and state == "kept":
        raise InputError(f"{name} draws in each round anew; leave state=kept out")
    step = optimizer(library, name, lr, options | ({"key": 0} if keyed else {}))

    def drawing(context: Context) -> library.GradientTransformation:
        return call_by_name(
            library, name, RATE, options | {RATE: lr, "key": context.keys.private}
        )

    return train(
        model,
        drawing if keyed else step,
        schedule(epochs, steps, batch, last, shuffle),
        mu,
        keeps=state == "kept",
    )


def _used(value: float) -> bool:
    """Whether a number is not 0 in all rounds."""
    return not is_known(value) or value != 0


def _positive(name: str, value: float) -> None:
    if is_known(value) and not 0 < value < math.inf:
        raise InputError(f"{name} must be positive and finite, got {value}")


by_round.register("local", training.by_round)
