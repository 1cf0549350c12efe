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
    names = ("init", "client_init", "broadcast", "client", "reduce", "server", "params")
    changed: dict[str, Any] = {
        name: returned.named(f"the algorithm's {name}", getattr(algorithm, name))
        for name in (*names, "observe")
    }
    return algorithm._replace(**changed)


def report(found: Any, state: Tree) -> Report:
    """A client's report, if it is one.

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
    wanted = "one float"
    returned.floats("the weight of a report", found.weight, (), wanted)
    for name in ("loss", "examples"):
        if name not in found.metrics:
            raise InputError(f"the metrics of a report must hold {name!r}")
        value = found.metrics[name]
        returned.floats(f"the metric {name!r} of a report", value, (), wanted)
    ok = found.ok
    if not returned.is_array(ok) or ok.shape != () or ok.dtype != jnp.bool_:
        kind = returned.describe(ok)
        raise InputError(f"ok of a report must be one truth value, bool[], not {kind}")
    what = "the client state of a report"
    returned.like(what, found.state, state, "the state before")
    return found


def server(found: Server, before: Server) -> Server:
    """The server after a step, if it looks as before.

    Raises:
      InputError: another structure, shape or dtype.
    """
    what = "what the algorithm's server gives"
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
        found = found | {name: returned.numbers(what, value, (), "one number")}
    return found


def parameters(params: Params) -> Params:
    """The parameters as arrays of jax.

    Raises:
      InputError: names the parameter that no round can begin with.
    """
    checked.parameters("the model's init", jax.tree.map(np.asarray, params))
    for path, leaf in returned.leaves(params).items():
        bad = np.size(leaf) - np.count_nonzero(np.isfinite(np.asarray(leaf)))
        if bad:
            raise InputError(
                f"parameter {path} has {bad} elements that are not finite before the "
                "first round; mend the model's init"
            )
    return jax.tree.map(jnp.asarray, params)
