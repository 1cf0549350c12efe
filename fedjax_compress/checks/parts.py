"""The parts of a run, each of whose functions is held to what its type promises.

A part that somebody else wrote may give back another shape than it should, and an array
of [batch, 1] where [batch] is wanted spreads through a mean without a word. The parts
made here refuse it in one line while the program is traced, before it compiles; the
compiled program is the same. What has been wrapped once is left as it is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.checks import figures, marks, returned
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.promotion import spared
from fedjax_compress.typing import (
    Aggregator,
    Array,
    Columns,
    Compressor,
    Context,
    LocalUpdate,
    Model,
    Params,
    Population,
    Problem,
    ServerOptimizer,
    Setup,
    Shard,
    Trained,
    Tree,
    rows_of,
)


def model(given: Model) -> Model:
    """The model whose functions are checked, a user's own traced as they are written.

    ``init``: at least one leaf, all float. ``losses``: two of float [batch].
    ``metrics``: sums of [batch, ...], where truth values become float32, finished to
    one number. ``constrain``: as its argument.
    """
    returned.expect("the model", given, Model)
    metrics = figures.of_model(given.metrics)
    same = metrics.items() == given.metrics.items()
    if same and marks.is_whole(given):
        return given
    plain = marks.plain(given)
    calls: dict[str, Any] = {n: spared(f) for n, f in marks.functions(plain).items()}
    given = plain._replace(**calls)

    def init(key: Any) -> Params:
        return parameters("the model's init", given.init(key))

    def losses(outputs: Any, columns: Columns) -> tuple[Array, Array]:
        rows, wanted = (rows_of(columns),), "one float for each example"
        found = given.losses(outputs, columns)
        if not isinstance(found, tuple) or len(found) != 2:
            raise InputError(
                "the model's losses must give (value, weight), not "
                f"{returned.describe(found)}"
            )
        value = returned.floats("the model's loss", found[0], rows, wanted)
        weight = "the weights of the model's loss"
        return value, returned.floats(weight, found[1], rows, wanted)

    constrain = given.constrain
    if constrain is not None:
        inner = constrain

        def constrained(params: Params) -> Params:
            made = inner(params)
            return returned.like("the model's constrain", made, params, _PARAMETERS)

        constrain = returned.named("the model's constrain", constrained, inner)
    made = given._replace(
        init=returned.named("the model's init", init, given.init),
        apply=returned.named("the model's apply", given.apply),
        losses=returned.named("the model's loss", losses, given.losses),
        metrics=metrics,
        constrain=constrain,
    )
    return marks.marked(made, plain)


_PARAMETERS = "the parameters"


def parameters(what: str, params: Params) -> Params:
    """The parameters, if there are any and all leaves are float; all as arrays.

    Raises:
      InputError: names the leaf that is not.
    """
    params = jax.tree.map(_as_array, params)
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


def _as_array(leaf: Any) -> Any:
    """A number of Python, or an array of another library, as an array."""
    if isinstance(leaf, float):
        return jnp.asarray(leaf, jnp.float32)  # has a type of its own, unlike 0.0
    known = returned.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
    plain = isinstance(leaf, int) or hasattr(leaf, "__array__")
    return np.asarray(leaf) if plain and not known else leaf


def local(given: LocalUpdate) -> LocalUpdate:
    """The local update whose functions are checked.

    The update, and the gradient, have the shapes of what is trained, the memory those
    of the memory before, and the metrics hold ``loss`` and ``examples``, numbers all of
    them.
    """
    returned.expect("local", given, LocalUpdate)
    if marks.is_whole(given):
        return given
    given = marks.plain(given)
    what = "the local update's run"

    def run(problem: Problem, shard: Shard, context: Context) -> Trained:
        made = given.run(problem, shard, context)
        if not isinstance(made, Trained):
            raise InputError(f"{what} must give Trained, not {returned.describe(made)}")
        of = f"the update of {what}"
        returned.like(of, made.update, problem.start, "what is trained")
        of = f"the memory of {what}"
        returned.like(of, made.memory, problem.memory, "the memory before")
        return made._replace(metrics=figures.of_report(what, made.metrics))

    def gradient(problem: Problem, shard: Shard, context: Context) -> Tree:
        assert given.gradient is not None
        of = "the local update's gradient"
        made = given.gradient(problem, shard, context)
        return returned.like(of, made, problem.start, "what is trained")

    made = given._replace(
        init=returned.named("the local update's init", given.init),
        run=returned.named(what, run, given.run),
        seen=returned.named("the local update's seen", given.seen),
    )
    if given.gradient is not None:
        of = "the local update's gradient"
        made = made._replace(gradient=returned.named(of, gradient, given.gradient))
    return marks.marked(made, given)


def setup(given: Setup) -> Setup:
    """What an algorithm joins, each part checked."""
    returned.expect("what an algorithm joins", given, Setup)
    if given.population is not None:
        returned.expect("the population", given.population, Population)
    returned.expect("the public rows", given.public, dict)
    if given.network is not None and not callable(given.network):
        found = returned.describe(given.network)
        raise InputError(f"network must be a function, not {found}")
    return given._replace(
        local=local(given.local),
        aggregator=aggregator(given.aggregator),
        optimizer=optimizer(given.optimizer),
        uplink=compressor(given.uplink, "the uplink"),
        downlink=compressor(given.downlink, "the downlink"),
    )


def aggregator(given: Aggregator) -> Aggregator:
    """The aggregator: ``finish`` gives what ``lift`` was given, in its shapes."""
    returned.expect("the aggregator", given, Aggregator)
    if marks.is_whole(given):
        return given
    given = marks.plain(given)

    def whole(tree: Tree, weight: Tree) -> Tree:
        return given.finish(given.lift(tree, weight))

    def lift(tree: Tree, weight: Tree) -> Any:
        made = jax.eval_shape(whole, tree, weight)
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
        what = "what the aggregator's finish makes"
        made = jax.tree.map(_as_float, made)
        returned.like(what, made, jax.tree.map(_as_float, wanted), "the updates")
        return given.lift(tree, weight)

    made = Aggregator(
        returned.named("the aggregator's lift", lift, given.lift),
        returned.named("the aggregator's finish", given.finish),
    )
    return marks.marked(made, given)


def _as_float(leaf: Any) -> Any:
    """Its shape with one float dtype for all: a mean may be wider than the updates."""
    real = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(leaf.shape, jnp.float32) if real else leaf


def optimizer(given: ServerOptimizer) -> ServerOptimizer:
    """The server optimizer: parameters and state keep their shapes and dtypes."""
    returned.expect("the server optimizer", given, ServerOptimizer)
    if marks.is_whole(given):
        return given
    given = marks.plain(given)
    what = "the server optimizer's apply"

    def apply(
        update: Tree, state: Any, params: Params, context: Context
    ) -> tuple[Params, Any]:
        made = given.apply(update, state, params, context)
        if not isinstance(made, tuple) or len(made) != 2:
            raise InputError(
                f"{what} must give (params, state), not {returned.describe(made)}"
            )
        returned.like(f"the params of {what}", made[0], params, _PARAMETERS)
        returned.like(f"the state of {what}", made[1], state, "the state before")
        return made

    made = ServerOptimizer(
        returned.named("the server optimizer's init", given.init),
        returned.named(what, apply, given.apply),
    )
    return marks.marked(made, given)


def compressor(given: Compressor, name: str = "the compressor") -> Compressor:
    """The compressor: what is decoded has the shapes and dtypes of what was encoded."""
    returned.expect(name, given, Compressor)
    if marks.is_whole(given):
        return given
    given = marks.plain(given)

    def encode(values: Tree, state: Any, keys: Any) -> Any:
        made = given.encode(values, state, keys)
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

    made = given._replace(
        init=returned.named(f"init of {name}", given.init),
        encode=returned.named(f"encode of {name}", encode, given.encode),
        decode=returned.named(f"decode of {name}", decode, given.decode),
    )
    return marks.marked(made, given)
