"""What every way of making a Model shares: defaults and checks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.models import losses
from fedjax_compress.models.cutting import check_cuts
from fedjax_compress.models.forms import convolution_form
from fedjax_compress.models.inputs import images, tokens
from fedjax_compress.typing import Array, Cuts, Key, Model, Params, Task

Read = Callable[[Array], Array]
Score = Callable[[Array, Array], Array]
Apply = Callable[[Params, Array, Key | None], Array]


def default_inputs(task: Task) -> Read:
    """``tokens`` for a task of tokens, else ``images`` at its scale."""
    return tokens if task.tokens else functools.partial(images, task=task)


def example(task: Task) -> Array:
    """Two examples of zeros, [2, ...], to find out shapes."""
    return jnp.zeros((2, *task.shape), jnp.int32 if task.tokens else jnp.float32)


def shapes(function: Callable[..., Any], *args: Any) -> Any:
    """Shapes and dtypes of what a function makes; starts no device."""
    with convolution_form("direct"):
        return jax.eval_shape(function, *args)


def make_model(
    init: Callable[[Key], Params],
    apply: Apply,
    task: Task,
    loss: Score | None = None,
    correct: Score | None = None,
    cuts: Cuts | None = None,
) -> Model:
    """A Model with the task's usual loss and right answers where none are given.

    Traces ``apply`` once to check what it makes.

    Raises:
      InputError: a parameter is not float32, or the outputs are not one number per
        class for each example (for tokens: for each token); or cuts do not fit.
    """
    params = shapes(lambda: init(jax.random.key(0)))
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if leaf.dtype != jnp.float32:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise InputError(f"parameter {name} must be float32, not {leaf.dtype}")
    if cuts is not None:
        check_cuts(cuts, params)
    outputs = shapes(lambda p: apply(p, example(task), None), params)
    wanted = (2, *(task.shape if task.tokens else ()), task.classes)
    if outputs.shape != wanted and loss is None:
        raise InputError(
            f"the module's outputs for 2 examples must have shape {wanted}, "
            f"not {outputs.shape}"
        )
    text = task.tokens
    return Model(
        init=init,
        apply=apply,
        loss=loss or (losses.token_cross_entropy if text else losses.cross_entropy),
        correct=correct or (losses.token_correct if text else losses.correct),
        cuts=cuts,
    )
