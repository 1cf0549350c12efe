"""A flax.nnx module as a Model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fedjax_compress import tree
from fedjax_compress.checks.returned import within
from fedjax_compress.errors import InputError
from fedjax_compress.models import adapt, flags
from fedjax_compress.models.adapt import Loss, Read, arguments, default_inputs
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
    Tree,
)

if TYPE_CHECKING:
    from flax import nnx


def from_nnx(
    make: Callable[[nnx.Rngs], nnx.Module],
    task: Task,
    *,
    inputs: Read | None = None,
    loss: Loss | None = None,
    metrics: dict[str, Metric] | None = None,
    pad: int | None = None,
    conv: Form = "auto",
    cuts: Cuts | None = None,
) -> Model:
    """A Model of flax.nnx modules that map [batch, ...] to [batch, classes].

    The module is split once into its graph and its state. The parameters, its
    ``nnx.Param`` variables, become a plain nested dict whose keys are attribute names
    and positions as text (``layers/0/kernel``). A key puts the module into training
    (``module.train()``) and seeds its random streams, whatever their names; without one
    it is evaluated (``module.eval()``). Arrays that are no variables are constants.

    Told likewise are arguments of ``__call__``, and attributes that are true or false
    in any of its modules, named ``train``, ``training`` or ``is_training``, or, with
    the opposite value, ``deterministic``. Not found are flags of other names.

    Args:
      make: rngs -> module, as in ``lambda rngs: Net(rngs=rngs)``; the module holds no
        running statistics (GroupNorm or LayerNorm instead of BatchNorm, whose
        statistics belong to no client).
      task: shape and classes of the data.
      inputs, loss, metrics, pad: as in ``from_linen``.
      conv: form of the module's convolutions, as in ``from_linen``.
      cuts: along which axes the module can be cut, as in ``from_linen``.

    Raises:
      InputError: the module keeps variables other than parameters and random streams,
        a parameter is not float32, or the outputs are not one number per class
        (checked where no ``loss`` is given); an argument of ``__call__`` without
        default that nobody sets, or a Dropout that was made without ``rngs``.
    """
    from flax import nnx  # most models are of flax.linen and do without it

    read = inputs or default_inputs(task)
    make = as_written()(make)
    with within("the function that makes the module"):
        module = make(nnx.Rngs(0))
    call, given = type(module).__call__, adapt.number_read(read, task)
    chosen = {t: flags.options(call, t, given) for t in (True, False)}
    _tell(module, True)
    training = nnx.split(module)[0]
    _tell(module, False)
    pieces: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
    evaluation, params, streams, constants = pieces
    _refuse_variables(constants)
    shapes, streams = tree.shapes(params), tree.shapes(streams)

    @jax.jit
    def init(key: Key) -> Params:
        return _to_dict(nnx.state(make(nnx.Rngs(key)), nnx.Param))

    @as_written()
    def apply(params: Params, columns: Columns, key: Key | None) -> Outputs:
        graph = evaluation if key is None else training
        state = _from_dict(params, shapes)
        whole = nnx.merge(graph, state, _seed(streams, key), constants)
        return whole(*arguments(read(columns)), **chosen[key is not None])

    with _explained():
        made = adapt.shapes(lambda: init(jax.random.key(0)))
        seen, key = adapt.example(task), jax.random.key(0)
        adapt.shapes(lambda p: apply(p, seen, key), made)
        whole = rewrite_convolutions(apply, conv)
        return adapt.make_model(init, whole, task, loss, metrics, cuts, pad)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What flax says of a Dropout without a stream becomes one line."""
    try:
        with within("the module's __call__"):
            yield
    except ValueError as error:
        if "no `rngs` argument" not in str(error):
            raise
        raise InputError(
            "a Dropout of the module has no random stream; make it with rngs=rngs"
        ) from error


def _tell(module: nnx.Module, training: bool) -> None:
    """Sets all flags of the module and of those inside it."""
    from flax import nnx

    name = "train" if training else "eval"
    own = getattr(module, name)
    if callable(own):
        with within(f"the module's {name}"):
            own()
    else:  # a flag of that name hides it
        getattr(nnx.Module, name)(module)
    for _, part in nnx.iter_modules(module):
        for name in flags.FLAGS:
            if isinstance(vars(part).get(name), bool):
                setattr(part, name, flags.flag(name, training))


def _refuse_variables(constants: nnx.State) -> None:
    from flax import nnx

    def is_variable(leaf: Any) -> bool:
        return isinstance(leaf, nnx.Variable)

    for path, leaf in jax.tree_util.tree_flatten_with_path(constants, is_variable)[0]:
        if is_variable(leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise InputError(
                f"the module keeps {name} ({type(leaf).__name__}) besides its "
                "parameters, which cannot be averaged over clients; use GroupNorm or "
                "LayerNorm"
            )


def _names(path: tuple) -> list[str]:
    return [str(k.key) for k in path if isinstance(k, jax.tree_util.DictKey)]


def _to_dict(state: nnx.State) -> Params:
    made: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        *parents, name = _names(path)
        inner = made
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = leaf
    return made


def _from_dict(params: Params, shapes: nnx.State) -> nnx.State:
    paths, structure = jax.tree_util.tree_flatten_with_path(shapes)
    leaves = []
    for path, _ in paths:
        leaf = params
        for name in _names(path):
            leaf = leaf[name]
        leaves.append(leaf)
    return jax.tree.unflatten(structure, leaves)


def _seed(streams: nnx.State, key: Key | None) -> Tree:
    leaves, structure = jax.tree.flatten(streams)
    root = jax.random.key(0) if key is None else key
    seeded = []
    for i, leaf in enumerate(leaves):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            own = jax.random.fold_in(root, i)
            seeded.append(jax.random.split(own, leaf.shape) if leaf.shape else own)
        else:
            seeded.append(jnp.zeros(leaf.shape, leaf.dtype))
    return jax.tree.unflatten(structure, seeded)
