"""What every way of making a Model shares: defaults and checks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.models.convolution.forms import convolution_form
from fedjax_compress.models.cutting import check_cuts
from fedjax_compress.models.inputs import images, numbers, tokens
from fedjax_compress.models.losses import Losses, losses_for, weight_of
from fedjax_compress.models.metrics import metrics_for
from fedjax_compress.typing import (
    Array,
    Columns,
    Cuts,
    Key,
    Metric,
    Model,
    Outputs,
    Params,
    Task,
)

Read = Callable[[Columns], Any]
"""columns -> what a network reads; a tuple for several arguments."""
Loss = Callable[[Outputs, Columns], Any]
"""(outputs, columns) -> float32 [batch], or (value, weight) of each row."""
Apply = Callable[[Params, Columns, Key | None], Outputs]


def default_inputs(task: Task) -> Read:
    """The features: ``tokens`` for a task of tokens, else ``images`` at its scale, or
    ``numbers`` as they are where a sequence is predicted."""
    plain = numbers if task.predicts == "sequence" else images
    read = tokens if task.tokens else functools.partial(plain, task=task)
    return lambda columns: read(columns["features"])


def read_features(read: Callable[[Array], Array]) -> Read:
    """What a network reads that reads nothing but the features."""
    return lambda columns: read(columns["features"])


def arguments(found: Any) -> tuple:
    """What was read, as the arguments of a network."""
    return found if isinstance(found, tuple) else (found,)


def number_read(read: Read, task: Task) -> int:
    """How many arguments a network gets.

    Raises:
      InputError: what is read are columns that the task does not name.
    """
    columns = shapes(lambda: example(task))
    try:
        return len(arguments(shapes(read, columns)))
    except KeyError as error:
        name = error.args[0] if error.args else None
        if name in columns or not isinstance(name, str):
            raise
        raise InputError(
            f"inputs reads a column {name!r}, and the task has {', '.join(columns)}; "
            "name further ones in its more, as in "
            f"Task(..., more=(({name!r}, (), 'float32'),))"
        ) from error


def example(task: Task, rows: int = 2) -> Columns:
    """A few rows of zeros, to find out shapes."""
    kind = jnp.int32 if task.tokens else jnp.float32
    number = task.predicts == "number"
    labels = {
        "class": (),
        "positions": task.shape[: 1 if task.tokens else 2],
        "several": (task.classes,),
        "number": (task.classes,) if task.classes > 1 else (),
        "sequence": (task.longest,),
    }[task.predicts]
    more = {n: jnp.zeros((rows, *shape), dtype) for n, shape, dtype in task.more}
    return more | {
        "features": jnp.zeros((rows, *task.shape), kind),
        "labels": jnp.zeros((rows, *labels), jnp.float32 if number else jnp.int32),
    }


def shapes(function: Callable[..., Any], *args: Any) -> Any:
    """Shapes and dtypes of what a function makes; starts no device."""
    with convolution_form("direct"):
        return jax.eval_shape(function, *args)


def make_model(
    init: Callable[[Key], Params],
    apply: Apply,
    task: Task,
    loss: Loss | None = None,
    metrics: dict[str, Metric] | None = None,
    cuts: Cuts | None = None,
    pad: int | None = None,
) -> Model:
    """A Model with the task's usual loss and figures where none are given.

    Traces ``apply`` once to check what it makes.

    Raises:
      InputError: a parameter is not float32, or the outputs are not one number per
        class for each example (for positions: for each of them); or cuts do not fit.
    """
    params = shapes(lambda: init(jax.random.key(0)))
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if leaf.dtype != jnp.float32:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise InputError(f"parameter {name} must be float32, not {leaf.dtype}")
    if cuts is not None:
        check_cuts(cuts, params)
    if loss is None:
        outputs = shapes(lambda p: apply(p, example(task), None), params)
        labels = shapes(lambda: example(task)["labels"])
        along = labels.shape[1:] if task.predicts == "positions" else ()
        wanted = [(2, *along, task.classes)]
        if task.predicts == "sequence":
            frames = outputs.shape[1:2] if getattr(outputs, "ndim", 0) == 3 else ()
            wanted = [(2, *(frames or task.shape[:1]), task.classes)]
        if task.predicts == "number" and task.classes == 1:
            wanted.append((2,))
        if getattr(outputs, "shape", None) not in wanted:
            found = getattr(outputs, "shape", type(outputs).__name__)
            raise InputError(
                f"the module's outputs for 2 examples must have shape {wanted[0]}, "
                f"not {found}"
            )
    return Model(
        init=init,
        apply=apply,
        losses=losses_for(task, pad) if loss is None else with_weights(loss),
        metrics=metrics_for(task, pad) if metrics is None else metrics,
        cuts=cuts,
    )


def with_weights(loss: Loss) -> Losses:
    """A loss that says what each row counts for: where it says nothing, 1 or what the
    column ``weights`` says."""

    def losses(outputs: Outputs, columns: Columns) -> Any:
        found = loss(outputs, columns)
        if isinstance(found, tuple):
            return found
        if hasattr(found, "shape"):
            return found, weight_of(columns)
        return found, None

    return functools.wraps(loss)(losses) if callable(loss) else losses
