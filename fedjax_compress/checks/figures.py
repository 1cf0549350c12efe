"""Figures that somebody else counts, in a model and in a client's report."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress.checks import returned
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.promotion import spared
from fedjax_compress.typing import (
    Array,
    Columns,
    Counted,
    Metric,
    Params,
    Tree,
    rows_of,
)

_METRIC = "_checked_metric"
"""On the count of a metric that is checked: the metric."""


def of_model(given: Any) -> dict[str, Metric]:
    """The metrics whose functions are checked.

    Raises:
      InputError: none at all, one that is no Metric, or another name than text.
    """
    if not isinstance(given, dict) or not given:
        raise InputError(
            "the model's metrics must be at least one Metric by its name, not "
            f"{'none' if given == {} else returned.describe(given)}"
        )
    return {name: _of_model(name, made) for name, made in given.items()}


def _of_model(name: Any, given: Any) -> Metric:
    """The metric whose functions are checked; itself if they are."""
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f"a metric's name must be one word, as accuracy, not {name!r}")
    if name == "loss":
        raise InputError(
            "a metric cannot be named loss: test_loss is the mean of the model's losses"
        )
    what = f"the metric {name}"
    returned.expect(what, given, Metric)
    metric: Metric = given
    if getattr(metric.count, _METRIC, None) is metric:
        return metric
    if given.better not in ("higher", "lower"):
        raise InputError(f"{what}: better must be higher or lower, not {given.better}")

    def count(params: Params, columns: Columns, outputs: Any) -> Tree:
        rows, wanted = rows_of(columns), "one number or more for each example"

        def checked(leaf: Any) -> Array:
            shape = (rows, *getattr(leaf, "shape", (0,))[1:])
            return returned.numbers(what, leaf, shape, wanted)

        found = jax.tree.map(checked, spared(given.count)(params, columns, outputs))
        if not jax.tree.leaves(found):
            raise InputError(f"{what} must give {wanted}, and gives nothing")
        sums = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), found)
        _ends(what, given, sums)
        return found

    made: Metric = given._replace(count=returned.named(what, count, given.count))
    setattr(made.count, _METRIC, made)
    return made


NEEDED = ("loss", "examples")
"""The metrics that there must be."""


def of_report(what: str, given: Any) -> dict[str, Any]:
    """The metrics, whole numbers and those of Python as float32 scalars.

    Args:
      what: of whom they are.
      given: as they came back.

    Raises:
      InputError: loss or examples are missing, or a metric is neither one number nor
        ``Counted``.
    """
    if not isinstance(given, dict) or not set(NEEDED) <= set(given):
        found = sorted(given) if isinstance(given, dict) else type(given).__name__
        raise InputError(
            f"the metrics of {what} must hold 'loss' and 'examples', not {found}"
        )
    return given | {
        name: _of_report(f"the metric {name!r} of {what}", found, name in NEEDED)
        for name, found in given.items()
    }


def _of_report(what: str, given: Any, needed: bool) -> Any:
    if needed or not isinstance(given, Counted):
        return returned.number(what, given)
    sums = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), given.sums)
    _ends(what, given.metric, sums)
    return Counted(given.metric, sums)


def _ends(what: str, metric: Metric, sums: Tree) -> None:
    """Raises InputError where the sums are not finished to one number."""
    end = jax.eval_shape(returned.named(f"finish of {what}", metric.finish), sums)
    if getattr(end, "shape", None) != ():
        raise InputError(
            f"{what} must be finished to one number, not {returned.describe(end)}"
        )
