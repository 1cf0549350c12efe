"""A network that learns at the server from what others make of public rows."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fedjax_compress import registry, tree
from fedjax_compress.algorithms.shared.groups import as_shard
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Array,
    Columns,
    Context,
    LocalUpdate,
    Model,
    Outputs,
    Params,
    Problem,
)

Loss = Callable[[Outputs, Columns], Array]
"""(outputs, columns with targets) -> float32 [batch]."""


def student_of(
    text: str | None, model: Model, rows: int, what: str = "student"
) -> LocalUpdate | None:
    """How a student learns: a local update by its SPEC; None for not at all.

    Args:
      text: the SPEC.
      model: of what learns.
      rows: how many it learns from.
      what: the option, for messages.

    Raises:
      InputError: it would take no step on so few rows.
    """
    if text is None:
        return None
    found: LocalUpdate = registry.build("local", text, model)
    if not float(found.seen(jnp.asarray(rows))):
        raise InputError(
            f"{what}={text} takes no step on {rows} rows; lower batch, or leave "
            "last=drop out"
        )
    return found


def taught(model: Model, loss: Loss) -> Model:
    """The model with another loss, each row of which counts for one."""

    def losses(outputs: Outputs, columns: Columns) -> tuple[Array, Array]:
        values = loss(outputs, columns)
        return values, jnp.ones_like(values)

    return model._replace(losses=losses)


def studied(
    student: LocalUpdate,
    model: Model,
    params: Params,
    rows: Columns,
    context: Context,
    used: Array | None = None,
) -> tuple[Params, Array]:
    """Parameters after learning, and the mean loss on the way.

    Args:
      student: how it learns; its optimizer starts anew.
      model: what learns, with its loss.
      params: before.
      rows: to learn from, with targets.
      context: whose keys draw batches.
      used: how many rows, from the first; None for all.
    """
    problem = Problem(params, model=lambda t: model, memory=student.init(params))
    trained = student.run(problem, as_shard(rows, used), context)
    return tree.add(params, trained.update), trained.metrics["loss"]
