"""The parts of a run, each of whose functions is held to what its type promises.

A part that somebody else wrote may give back another shape than it should, and an array
of [batch, 1] where [batch] is wanted spreads through a mean without a word. The parts
made here refuse it in one line while the program is traced, before it compiles; the
compiled program is the same. What has been wrapped once is left as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress import returned
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Aggregator,
    Array,
    Compressor,
    LocalUpdate,
    Model,
    Params,
    ServerOptimizer,
    Tree,
)

_MARK = "_checked"


def model(given: Model) -> Model:
    """The model whose functions are checked.

    ``init``: at least one leaf, all float. ``loss``: float [batch]. ``correct``:
    [batch], where truth values become float32. ``constrain``: as its argument.
    """
    _expect("the model", given, Model)
    if _is_checked(given.loss):
        return given

    def init(key: Any) -> Params:
        return parameters("the model's init", given.init(key))

    def loss(outputs: Any, labels: Array) -> Array:
        rows, wanted = labels.shape[:1], "one float for each example"
        found = given.loss(outputs, labels)
        return returned.floats("the model's loss", found, rows, wanted)

    def correct(outputs: Any, labels: Array) -> Array:
        rows, wanted = labels.shape[:1], "one number for each example"
        found = given.correct(outputs, labels)
        return returned.numbers("the model's correct", found, rows, wanted)

    constrain = given.constrain
    if constrain is not None:
        inner = constrain

        def constrained(params: Params) -> Params:
            made = inner(params)
            return returned.like("the model's constrain", made, params, _PARAMETERS)

        constrain = _named("the model's constrain", constrained, inner)
    return given._replace(
        init=_named("the model's init", init, given.init),
        apply=_named("the model's apply", given.apply, given.apply),
        loss=_named("the model's loss", loss, given.loss),
        correct=_named("the model's correct", correct, given.correct),
        constrain=constrain,
    )


_PARAMETERS = "the parameters"


def parameters(what: str, params: Params) -> Params:
    """The parameters, if there are any and all leaves are float.

    Raises:
      InputError: names the leaf that is not.
    """
    found = returned.leaves(params)
    if not found:
        raise InputError(f"{what} must give parameters, and gives none")
    for path, leaf in found.items():
        if not returned.is_array(leaf) and not isinstance(leaf, jax.ShapeDtypeStruct):
            raise InputError(
                f"{what} must give arrays; {path or 'it'} is {returned.describe(leaf)}"
            )
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"{what} must give floats only; {path or 'it'} is "
                f"{returned.describe(leaf)}"
            )
    return params


def local(given: LocalUpdate) -> LocalUpdate:
    """The local update whose ``run`` is checked.

    The update has the shapes of what is trained, the state those of the state before,
    and the metrics hold ``loss`` and ``examples``, numbers all of them.
    """
    _expect("local", given, LocalUpdate)
    if _is_checked(given.run):
        return given
    what = "the local update's run"

    def run(params: Params, state: Any, *rest: Any, **more: Any) -> Any:
        made = given.run(params, state, *rest, **more)
        if not isinstance(made, tuple) or len(made) != 3:
            raise InputError(
                f"{what} must give (update, state, metrics), not "
                f"{returned.describe(made)}"
            )
        frame = more.get("frame", rest[2] if len(rest) > 2 else None)
        update, after, metrics = made
        trained = params if frame is None else frame.start
        returned.like(f"the update of {what}", update, trained, "what is trained")
        returned.like(f"the state of {what}", after, state, "the state before")
        return update, after, _metrics(what, metrics)

    return given._replace(run=_named(what, run, given.run))


def _metrics(what: str, metrics: Any) -> dict[str, Array]:
    """The metrics, whole numbers and those of Python as float32 scalars."""
    if not isinstance(metrics, dict) or not {"loss", "examples"} <= set(metrics):
        found = sorted(metrics) if isinstance(metrics, dict) else type(metrics).__name__
        raise InputError(
            f"the metrics of {what} must hold 'loss' and 'examples', not {found}"
        )
    made = {}
    for name, value in metrics.items():
        whose = f"the metric {name!r} of {what}"
        plain = isinstance(value, (bool, int, float))
        array = jnp.asarray(value, jnp.float32) if plain else value
        made[name] = returned.numbers(whose, array, (), "one number")
    return made


def aggregator(given: Aggregator) -> Aggregator:
    """The aggregator: ``finish`` gives what ``lift`` was given, in its shapes."""
    _expect("the aggregator", given, Aggregator)
    if _is_checked(given.lift):
        return given

    def whole(tree: Tree, weight: Tree) -> Tree:
        return given.finish(given.lift(tree, weight))

    def lift(tree: Tree, weight: Tree) -> Any:
        made = jax.eval_shape(whole, tree, weight)
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
        what = "what the aggregator's finish makes"
        made = jax.tree.map(_as_float, made)
        returned.like(what, made, jax.tree.map(_as_float, wanted), "the updates")
        return given.lift(tree, weight)

    return Aggregator(
        _named("the aggregator's lift", lift, given.lift),
        _named("the aggregator's finish", given.finish, given.finish),
    )


def _as_float(leaf: Any) -> Any:
    """Its shape with one float dtype for all: a mean may be wider than the updates."""
    real = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(leaf.shape, jnp.float32) if real else leaf


def optimizer(given: ServerOptimizer) -> ServerOptimizer:
    """The server optimizer: parameters and state keep their shapes and dtypes."""
    _expect("the server optimizer", given, ServerOptimizer)
    if _is_checked(given.apply):
        return given
    what = "the server optimizer's apply"

    def apply(update: Tree, state: Any, params: Params) -> tuple[Params, Any]:
        made = given.apply(update, state, params)
        if not isinstance(made, tuple) or len(made) != 2:
            raise InputError(
                f"{what} must give (params, state), not {returned.describe(made)}"
            )
        returned.like(f"the params of {what}", made[0], params, _PARAMETERS)
        returned.like(f"the state of {what}", made[1], state, "the state before")
        return made

    return ServerOptimizer(
        _named("the server optimizer's init", given.init, given.init),
        _named(what, apply, given.apply),
    )


def compressor(given: Compressor, name: str = "the compressor") -> Compressor:
    """The compressor: what is decoded has the shapes and dtypes of what was encoded."""
    _expect(name, given, Compressor)
    if _is_checked(given.decode):
        return given

    def encode(values: Tree, state: Any, coin: Any) -> Any:
        made = given.encode(values, state, coin)
        if not isinstance(made, tuple) or len(made) != 2:
            raise InputError(
                f"encode of {name} must give (payload, state), not "
                f"{returned.describe(made)}"
            )
        if jax.tree.leaves(made[1]) or jax.tree.leaves(state):
            returned.like(f"the state of {name}", made[1], state, "the state before")
        return made

    def decode(payload: Any, like: Tree, key: Any) -> Tree:
        made = given.decode(payload, like, key)
        return returned.like(f"what {name} decodes", made, like, "what was encoded")

    return given._replace(
        init=_named(f"init of {name}", given.init, given.init),
        encode=_named(f"encode of {name}", encode, given.encode),
        decode=_named(f"decode of {name}", decode, given.decode),
    )


def _expect(name: str, given: Any, kind: type) -> None:
    if not isinstance(given, kind):
        a = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InputError(f"{name} must be {a} {kind.__name__}, not {_type(given)}")


def _type(given: Any) -> str:
    named = getattr(given, "__name__", None)
    return f"{type(given).__name__} {named!r}" if named else type(given).__name__


def _named(what: str, function: Callable, original: Callable) -> Callable:
    """The function, whose errors get a note, with the signature of the original."""

    call = returned.named(what, function)
    if callable(original):
        functools.update_wrapper(call, original)
    setattr(call, _MARK, True)
    return call


def _is_checked(function: Callable) -> bool:
    return getattr(function, _MARK, False)
