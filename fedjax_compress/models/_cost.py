"""What a model costs: parameters, multiplications, and operations as compiled."""

from __future__ import annotations

import hashlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import tree
from fedjax_compress.models.adapt import example
from fedjax_compress.models.convolution.forms import convolution_form
from fedjax_compress.typing import Model, Task

_counted: dict[str, float] = {}
"""Operations by the program that was compiled to count them: runs of one process often
have the same, whatever their settings say."""


class Cost(NamedTuple):
    """What one example costs.

    Attributes:
      parameters: number of them.
      macs: multiply-accumulates of one forward pass, in matrix products and
        convolutions, counted from their shapes.
      flops: operations of one step of training, gradient of the loss, as XLA counts
        those of the compiled program; about 6 macs, less what nobody needs (the
        gradient of the inputs), plus everything else.
    """

    parameters: int
    macs: int
    flops: float


def cost(model: Model, task: Task) -> Cost:
    """The cost of a model; compiles the gradient of the loss of one example.

    XLA counts the body of a loop once, so for recurrent networks ``flops`` is too low.
    """
    params, columns = _shapes(model, task)

    def loss(params: Any, columns: Any) -> Any:
        outputs = model.apply(params, columns, None)
        return jnp.mean(model.losses(outputs, columns)[0])

    with convolution_form("direct"):
        flops = _flops(jax.jit(jax.grad(loss)).lower(params, columns))
    return Cost(tree.count(params), forward_macs(model, task), flops)


def forward_macs(model: Model, task: Task) -> int:
    """Multiply-accumulates of a forward pass on one row; compiles nothing."""
    params, columns = _shapes(model, task)
    with convolution_form("direct"):
        forward = jax.make_jaxpr(lambda p, c: model.apply(p, c, None))
        return _macs(forward(params, columns).jaxpr)


def _shapes(model: Model, task: Task) -> tuple[Any, Any]:
    """Of the parameters, and of the columns of one row."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    return params, jax.eval_shape(lambda: example(task, 1))


def _flops(step: Any) -> float:
    """Operations of a lowered program, as XLA counts them when it is compiled."""
    digest = hashlib.sha256(step.as_text().encode()).hexdigest()
    if digest not in _counted:
        found: Any = step.compile().cost_analysis()
        found = found[0] if isinstance(found, list) else found
        _counted[digest] = float((found or {}).get("flops", math.nan))
    return _counted[digest]


def _macs(jaxpr: Any) -> int:
    """Multiply-accumulates of all products in a program, loops included."""
    total = 0
    for equation in jaxpr.eqns:
        name, given = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = given["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            inner = math.prod(shape[axis] for axis in contracted)
            total += inner * math.prod(equation.outvars[0].aval.shape)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[given["dimension_numbers"].rhs_spec[0]]
            made = math.prod(equation.outvars[0].aval.shape)
            total += made * math.prod(kernel) // outputs
        times = given["length"] if name == "scan" else 1
        for value in given.values():
            inner_program = getattr(value, "jaxpr", value)
            if hasattr(inner_program, "eqns"):
                total += times * _macs(inner_program)
    return total
