"""A flax.linen module as a Model."""

from __future__ import annotations

import inspect
from typing import Any

import jax
from flax import linen

from fedjax_compress.errors import InputError
from fedjax_compress.models.adapt import (
    Read,
    Score,
    default_inputs,
    example,
    make_model,
    shapes,
)
from fedjax_compress.models.forms import Form
from fedjax_compress.models.rewrite import rewrite_convolutions
from fedjax_compress.typing import Array, Cuts, Key, Model, Params, Task


def from_linen(
    module: linen.Module,
    task: Task,
    *,
    inputs: Read | None = None,
    loss: Score | None = None,
    correct: Score | None = None,
    conv: Form = "auto",
    cuts: Cuts | None = None,
) -> Model:
    """A Model of a flax.linen module that maps [batch, ...] to [batch, classes].

    The parameters are the module's ``params`` collection, a plain nested dict. If
    the module's ``__call__`` has an argument ``train`` or ``deterministic``, it is
    told whether a key was given; the key feeds the random stream ``dropout``.

    Args:
      module: a module without running statistics (GroupNorm or LayerNorm instead of
        BatchNorm, whose statistics belong to no client).
      task: shape and classes of the data.
      inputs: stored features [batch, ...] -> what the module reads. By default float32
        numbers, divided by the task's scale (pixels in [0, 1]); (height, width) images
        get a channel axis, and tokens become int32.
      loss: (outputs, labels) -> float32 [batch]; softmax cross-entropy by default,
        for tokens its mean over the tokens that are not 0.
      correct: (outputs, labels) -> float32 [batch]; likewise.
      conv: form in which the module's convolutions are computed, see
        ``rewrite_convolutions``; ``direct`` leaves the module as it is.
      cuts: along which axes the module can be cut, for algorithms that do so.

    Raises:
      InputError: the module keeps more than parameters, a parameter is not float32,
        or the outputs are not one number per class (checked where no ``loss`` is
        given).
    """
    read = inputs or default_inputs(task)
    flag = _training_flag(module)

    def options(training: bool) -> dict[str, Any]:
        return {} if flag is None else {flag: training == (flag == "train")}

    def variables(key: Key) -> dict[str, Any]:
        return dict(module.init({"params": key}, read(example(task)), **options(False)))

    @jax.jit
    def init(key: Key) -> Params:
        return variables(key).get("params", {})

    def apply(params: Params, features: Array, key: Key | None) -> Any:
        rngs = None if key is None else {"dropout": key}
        chosen = options(key is not None)
        return module.apply({"params": params}, read(features), rngs=rngs, **chosen)

    kept = shapes(lambda: variables(jax.random.key(0)))
    extra = ", ".join(sorted(set(kept) - {"params"}))
    if extra:
        raise InputError(
            f"the module keeps {extra} besides its parameters, which cannot be "
            "averaged over clients; use GroupNorm or LayerNorm"
        )
    whole = rewrite_convolutions(apply, conv)
    return make_model(init, whole, task, loss, correct, cuts)


def _training_flag(module: linen.Module) -> str | None:
    arguments = inspect.signature(type(module).__call__).parameters
    return next((n for n in ("train", "deterministic") if n in arguments), None)
