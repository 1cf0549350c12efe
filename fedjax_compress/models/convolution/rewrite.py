"""Convolutions and max pooling of any function, computed in the forms of this room.

A function is traced to a jaxpr, JAX's list of its operations, and done again operation
by operation with the slow ones replaced. Derivatives and ``vmap`` come after that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from fedjax_compress.models.convolution.forms import Form, resolve
from fedjax_compress.models.convolution.layer import max_pool, patches, shifted
from fedjax_compress.models.convolution.winograd import suits, winograd
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.typing import Array

Replacement = Callable[[Sequence[Array], dict[str, Any], Form], Array | None]


def rewrite_convolutions(
    function: Callable[..., Any], form: Form = "auto"
) -> Callable[..., Any]:
    """The same function with its plain convolutions and 2 x 2 max pools made anew.

    Replaced are two-dimensional ``lax.conv_general_dilated`` in floating point with
    any layout, size, strides, padding and kernel dilation, of one group or depthwise,
    and ``lax.reduce_window`` for the maximum over 2 x 2 blocks of [batch, height,
    width, channels]; at top level, under ``jit`` (inlined), ``lax.scan`` and
    ``jax.checkpoint``. Everything else is done as it was: other groups, transposed,
    one- and three-dimensional convolutions, and what stands under ``cond``,
    ``while_loop``, ``custom_jvp`` or ``custom_vjp``.

    Outputs and gradients agree to rounding, with one exception: where the largest
    numbers of a pooled block tie, they share the gradient in halves; of
    ``reduce_window`` the first of them has all of it.

    Args:
      function: arrays in, arrays out; traceable, as for ``jax.jit``. If it holds
        nothing to replace it is called as it is.
      form: see ``forms.Form``; ``direct`` leaves the function as it is.
    """

    @functools.wraps(function)
    def rewritten(*args: Any, **kwargs: Any) -> Any:
        if form == "direct":
            return function(*args, **kwargs)
        leaves, structure = jax.tree.flatten((args, kwargs))

        # A function of its own each time: what ``auto`` means inside is not cached.
        def flat(*leaves: Any) -> Any:
            again, named = jax.tree.unflatten(structure, leaves)
            return function(*again, **named)

        traced, shapes = jax.make_jaxpr(flat, return_shape=True)(*leaves)
        # Nobody is asked for a form if there is nothing to replace.
        if not _holds(traced.jaxpr) or (chosen := resolve(form)) == "direct":
            return function(*args, **kwargs)
        made = _evaluate(traced.jaxpr, traced.consts, leaves, chosen)
        return jax.tree.unflatten(jax.tree.structure(shapes), made)

    return rewritten


def _evaluate(
    jaxpr: core.Jaxpr, constants: Sequence[Any], inputs: Sequence[Any], form: Form
) -> list[Any]:
    values: dict[core.Var, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    values.update(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        with equation.ctx.manager:
            made = _again(equation, [read(atom) for atom in equation.invars], form)
        values.update(zip(equation.outvars, made, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _again(equation: core.JaxprEqn, inputs: list[Any], form: Form) -> Sequence[Any]:
    """The outputs of one operation, replaced or as it was."""
    primitive, params = equation.primitive, equation.params
    replace = _REPLACEMENTS.get(primitive.name)
    if replace:
        made = replace(inputs, params, form)
        if made is not None:
            return [made]
    enter = _CALLS.get(primitive.name)
    if enter and _holds(params["jaxpr"]):
        return enter(inputs, equation, form)
    result = primitive.bind(*inputs, **primitive.get_bind_params(params))
    return result if primitive.multiple_results else [result]


def _holds(jaxpr: Any) -> bool:
    """Whether an operation to replace stands in a jaxpr, at a depth that is reached."""
    return any(
        e.primitive.name in _REPLACEMENTS
        or (e.primitive.name in _CALLS and _holds(e.params["jaxpr"]))
        for e in jaxpr.eqns
    )


def _jit(inputs: list[Any], equation: Any, form: Form) -> Sequence[Any]:
    closed = equation.params["jaxpr"]
    return _evaluate(closed.jaxpr, closed.consts, inputs, form)


def _checkpoint(inputs: list[Any], equation: Any, form: Form) -> Sequence[Any]:
    params = equation.params

    def run(*inputs: Any) -> Sequence[Any]:
        return _evaluate(params["jaxpr"], (), inputs, form)

    again = jax.checkpoint(
        run, prevent_cse=params["prevent_cse"], policy=params["policy"]
    )
    return again(*inputs)


def _scan(inputs: list[Any], equation: Any, form: Form) -> Sequence[Any]:
    params = equation.params
    closed = params["jaxpr"]
    # What is carried comes first of the outputs and goes out as it goes in; the last
    # inputs are cut along their first axis. Names of these numbers differ by version.
    kept = _alike(equation.outvars, closed.jaxpr.outvars)
    constants = _alike(equation.invars, closed.jaxpr.invars) - kept
    fixed = inputs[:constants]
    carried = inputs[len(fixed) : len(fixed) + kept]

    def step(carry: Any, now: Any) -> tuple:
        made = _evaluate(closed.jaxpr, closed.consts, [*fixed, *carry, *now], form)
        return made[:kept], made[kept:]

    carry, stacked = lax.scan(  # type: ignore[var-annotated]
        step,
        carried,
        inputs[len(fixed) + kept :],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *stacked]


def _alike(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    """How many values a loop leaves whole: those of the same number of axes inside."""
    pairs = zip(outer, inner, strict=True)
    return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in pairs)


def _convolution(
    inputs: Sequence[Array], params: dict[str, Any], form: Form
) -> Array | None:
    x, kernel = inputs
    strides, dilation = params["window_strides"], params["rhs_dilation"]
    plain = params["batch_group_count"] == 1 and set(params["lhs_dilation"]) <= {1}
    if x.ndim != 4 or not plain or not jnp.issubdtype(x.dtype, jnp.floating):
        return None
    of_x, of_kernel, of_output = params["dimension_numbers"]
    x = x.transpose(of_x[0], *of_x[2:], of_x[1])
    kernel = kernel.transpose(*of_kernel[2:], of_kernel[1], of_kernel[0])
    around, precision = params["padding"], params["precision"]
    wanted = params["preferred_element_type"] or x.dtype
    with as_written():
        if jnp.promote_types(x.dtype, wanted) != wanted:
            return None
    x, kernel = x.astype(wanted), kernel.astype(wanted)
    if 0 in x.shape or _reach(x, kernel, around, dilation) < 1:
        return None
    if params["feature_group_count"] > 1:
        if params["feature_group_count"] != x.shape[3]:
            return None
        y = _depthwise(x, kernel, around, strides, dilation)
    elif (
        form == "winograd" and {*strides, *dilation} == {1} and suits(x, kernel, around)
    ):
        y = winograd(x, kernel, around)
    else:
        y = patches(x, kernel, around, strides, dilation, precision)
    order = (of_output[0], *of_output[2:], of_output[1])
    return y.transpose([order.index(i) for i in range(4)])


def _reach(x: Array, kernel: Array, around: Any, dilation: Sequence[int]) -> int:
    """How often a kernel fits along its tighter axis, at least."""
    return min(
        x.shape[1 + i] + sum(around[i]) - (kernel.shape[i] - 1) * dilation[i]
        for i in range(2)
    )


def _depthwise(
    x: Array, kernel: Array, around: Any, strides: Any, dilation: Any
) -> Array:
    """Each channel with kernels of its own: a sum of products, number by number.

    Args:
      x: [batch, height, width, channels].
      kernel: [rows, columns, 1, channels * times].
    """
    rows, columns, _, features = kernel.shape
    channels = x.shape[3]
    weights = kernel.reshape(rows, columns, 1, 1, 1, channels, features // channels)
    zeros = [(0, 0, 0), *((a, b, 0) for a, b in around), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), zeros)
    terms = [
        seen[..., None] * weights[i, j]
        for i, part in enumerate(shifted(x, 1, rows, strides[0], dilation[0]))
        for j, seen in enumerate(shifted(part, 2, columns, strides[1], dilation[1]))
    ]
    y = functools.reduce(jnp.add, terms)
    return y.reshape(*y.shape[:3], features)


def _max_pool(
    inputs: Sequence[Array], params: dict[str, Any], form: Form
) -> Array | None:
    (x,) = inputs
    blocks = (1, 2, 2, 1)
    alike = params["window_dimensions"] == params["window_strides"] == blocks
    spread = {*params["base_dilation"], *params["window_dilation"]} != {1}
    padded = any(a or b for a, b in params["padding"])
    if not alike or spread or padded or not jnp.issubdtype(x.dtype, jnp.floating):
        return None
    return max_pool(x)


_REPLACEMENTS: dict[str, Replacement] = {
    "conv_general_dilated": _convolution,
    "reduce_window_max": _max_pool,
}
_CALLS: dict[str, Callable[[list, Any, Form], Sequence[Any]]] = {
    "jit": _jit,
    "pjit": _jit,
    "remat2": _checkpoint,
    "checkpoint": _checkpoint,
    "scan": _scan,
}
