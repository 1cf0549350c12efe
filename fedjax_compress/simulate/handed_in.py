"""What an algorithm's functions give back, checked while a round is traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import checked, returned
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Algorithm, Metrics, Params, Report, Server, Tree

OWN_NAMES = (
    "round", "train_loss", "clients", "dropped", "bytes_up", "bytes_down",
    "nominal_bytes_up", "nominal_bytes_down", "seconds", "clients_per_second",
    "test_loss", "test_accuracy", "client_accuracy_mean", "client_accuracy_p10",
    "diverged",
)  # fmt: skip
"""Names in a record that are the engine's; an algorithm's ``observe`` has others."""


def named(algorithm: Algorithm) -> Algorithm:
    """The algorithm whose functions' errors say which of them it was."""
    changed: dict[str, Any] = {
        name: returned.named(f"the algorithm's {name}", function)
        for name, function in algorithm._asdict().items()
        if callable(function)
    }
    return algorithm._replace(**changed)


def report(found: Any, state: Tree) -> Report:
    """A client's report, if it is one: truth values of Python and numbers as arrays.

    Args:
      found: what the algorithm's client has made.
      state: of the client, before.

    Raises:
      InputError: a weight or a metric that is not one number, or a state of other
        shapes than before.
    """
    if not isinstance(found, Report):
        kind = returned.describe(found)
        raise InputError(f"the algorithm's client must give a Report, not {kind}")
    weight = returned.number("the weight of a report", found.weight)
    metrics = checked.metrics("a report", found.metrics, checked.NEEDED)
    ok = jnp.asarray(found.ok) if isinstance(found.ok, bool) else found.ok
    if not returned.is_array(ok) or ok.shape != () or ok.dtype != jnp.bool_:
        kind = returned.describe(ok)
        raise InputError(f"ok of a report must be one truth value, bool[], not {kind}")
    what = "the client state of a report"
    returned.like(what, found.state, state, "the state before")
    return found._replace(weight=weight, metrics=metrics, ok=ok)


def record(found: Any, before: Tree) -> Tree:
    """The record of a client after a round, if it looks as before.

    Raises:
      InputError: another structure, shape or dtype.
    """
    what = "the record that the algorithm's reduce gives"
    return returned.like(what, found, before, "the record before")


def server(found: Server, before: Server, name: str = "server") -> Server:
    """The server after the algorithm's function ``name``, if it looks as before.

    Raises:
      InputError: another structure, shape or dtype.
    """
    what = f"the server that the algorithm's {name} gives"
    return returned.like(what, found, before, "the server before")


def observed(found: Any) -> Metrics:
    """What the algorithm observes, if it can stand in a record.

    Raises:
      InputError: a name that is the engine's own, or a value that is not one number.
    """
    if not isinstance(found, dict):
        kind = returned.describe(found)
        raise InputError(f"the algorithm's observe must give a dict, not {kind}")
    for name, value in found.items():
        if name in OWN_NAMES:
            raise InputError(
                f"the algorithm's observe gives {name!r}, which is a name of the "
                "record's own; give it another"
            )
        what = f"{name!r} of the algorithm's observe"
        found = found | {name: returned.number(what, value)}
    return found


def parameters(params: Params) -> Params:
    """The parameters as arrays of jax.

    Raises:
      InputError: names the parameter that no round can begin with.
    """
    params = checked.parameters("the model's init", params)
    for path, leaf in returned.leaves(params).items():
        bad = np.size(leaf) - np.count_nonzero(np.isfinite(np.asarray(leaf)))
        if bad:
            raise InputError(
                f"parameter {path} has {bad} elements that are not finite before the "
                "first round; mend the model's init"
            )
    return jax.tree.map(jnp.asarray, params)
