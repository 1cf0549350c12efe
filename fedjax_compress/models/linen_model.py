"""A flax.linen module as a Model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen

from fedjax_compress.errors import InputError
from fedjax_compress.models import flags
from fedjax_compress.models.adapt import (
    Loss,
    Read,
    arguments,
    default_inputs,
    example,
    make_model,
    number_read,
    shapes,
)
from fedjax_compress.models.convolution.forms import Form
from fedjax_compress.models.convolution.rewrite import rewrite_convolutions
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.typing import (
    Columns,
    Cuts,
    Key,
    Metric,
    Model,
    Outputs,
    Params,
    Task,
)


def from_linen(
    module: linen.Module,
    task: Task,
    *,
    inputs: Read | None = None,
    loss: Loss | None = None,
    metrics: dict[str, Metric] | None = None,
    pad: int | None = None,
    conv: Form = "auto",
    cuts: Cuts | None = None,
    streams: Sequence[str] = (),
) -> Model:
    """A Model of a flax.linen module that maps [batch, ...] to [batch, ...].

    The parameters are the module's ``params`` collection, a plain nested dict. A key
    means training and feeds the random stream ``dropout``; without one the module is
    evaluated and draws nothing.

    Whether it is training is told by name: ``train``, ``training``, ``is_training``, or
    the opposite of ``deterministic``. Found are arguments of the module's ``__call__``
    and its fields, whatever their default; fields of modules that stand in its fields;
    and Dropout in ``linen.Sequential``. Modules made inside ``__call__`` or ``setup``
    are told by those who make them, as in flax; a Dropout that stays off while training
    is refused, unless it is switched off in a call beside another one that is on. Not
    found are flags of other names, and random layers other than Dropout that nobody
    switches on.

    Args:
      module: a module without running statistics (GroupNorm or LayerNorm instead of
        BatchNorm, whose statistics belong to no client).
      task: shape and classes of the data.
      inputs: columns [batch, ...] -> what the module reads, a tuple for several
        arguments. By default the features as float32 numbers, divided by the task's
        scale (pixels in [0, 1]); (height, width) images get a channel axis, and tokens
        become int32.
      loss: (outputs, columns) -> float32 [batch], or that and what each row counts for,
        which else the column ``weights`` says, if there is one; by default as the
        task's ``target`` asks, see ``losses.losses_for``.
      metrics: figures by name; the first is the one to plot; by default as the task's
        ``target`` asks, see ``metrics.metrics_for``.
      pad: the symbol that is not scored; None for 0 where features are tokens.
      conv: form in which the module's convolutions are computed, see
        ``rewrite_convolutions``; ``direct`` leaves the module as it is.
      cuts: along which axes the module can be cut, for algorithms that do so.
      streams: names of further random streams that the module draws from while it is
        training, as in ``("noise",)``; each has a key of its own.

    Raises:
      InputError: the module keeps more than parameters, a parameter is not float32,
        or the outputs are not one number per class (checked where no ``loss`` is
        given); an argument of ``__call__`` without default that nobody sets, a random
        stream that is not given, or a Dropout that is off while training, untold.
    """
    read, names = inputs or default_inputs(task), flags.check_streams(streams)
    modules = {training: flags.told(module, training) for training in (True, False)}
    call, given = type(module).__call__, number_read(read, task)
    chosen = {t: flags.options(call, t, given) for t in modules}
    ours = type(module).__module__.startswith(__package__)
    promotion = contextlib.nullcontext if ours else as_written

    def variables(key: Key) -> dict[str, Any]:
        with promotion():
            return create(key, arguments(read(example(task))))

    def create(key: Key, seen: tuple) -> dict[str, Any]:
        return dict(modules[False].init({"params": key}, *seen, **chosen[False]))

    @jax.jit
    def init(key: Key) -> Params:
        return variables(key).get("params", {})

    def apply(params: Params, columns: Columns, key: Key | None) -> Outputs:
        rngs = None if key is None else flags.streams(names, key)
        training, given = key is not None, {"params": params}
        with promotion():
            return modules[training].apply(
                given, *arguments(read(columns)), rngs=rngs, **chosen[training]
            )

    with flags.explained(names):
        kept = shapes(lambda: variables(jax.random.key(0)))
    extra = ", ".join(sorted(set(kept) - {"params"}))
    if extra:
        raise InputError(
            f"the module keeps {extra} besides its parameters, which cannot be "
            "averaged over clients; use GroupNorm or LayerNorm"
        )
    if not ours:
        with flags.explained(names), flags.dropouts_are_on():
            seen, key = example(task), jax.random.key(0)
            shapes(lambda p: apply(p, seen, key), kept.get("params", {}))
    whole = rewrite_convolutions(apply, conv)
    with flags.explained(names):
        return make_model(init, whole, task, loss, metrics, cuts, pad)
