"""What an algorithm's functions give back, checked while a round is traced."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.checks import figures, parts, returned
from fedjax_compress.errors import InputError
from fedjax_compress.simulate.evaluate import client_scores
from fedjax_compress.typing import (
    Algorithm,
    Metrics,
    Model,
    Params,
    Report,
    Server,
    Tier,
    Tree,
)

OWN_NAMES = (
    "round", "train_loss", "clients", "dropped", "bytes_up", "bytes_down",
    "nominal_bytes_up", "nominal_bytes_down", "seconds", "clients_per_second",
    "test_loss", "diverged", "virtual_seconds", "download_seconds", "compute_seconds",
    "upload_seconds", "waiting_seconds", "energy_joules", "lost", "late", "sent",
    "failed", "stale", "staleness",
)  # fmt: skip
"""Names in every record; an algorithm's ``observe`` has others."""
_KNOWN = ("loss", "examples", "steps", "processed")
"""Metrics of a client that every local update of ours has."""


def taken(model: Model | None, metrics: Metrics) -> frozenset[str]:
    """Names that a record has, or may get, without the algorithm's ``observe``.

    Args:
      model: whose scores are recorded; None for one that is judged by its accuracy.
      metrics: the clients' own.
    """
    given = {} if model is None else model.metrics
    kinds = {name: metric.better for name, metric in given.items()}
    kinds = kinds or {"accuracy": "higher"}
    first, better = next(iter(kinds.items()))
    scores = [f"test_{name}" for name in kinds]
    for of in ("client", "personal"):
        scores += client_scores(first, better, of)
    return frozenset((*OWN_NAMES, *scores, *map(trained_name, metrics)))


def trained_name(name: str) -> str:
    """What the mean over clients of a metric of theirs is called in a record."""
    return f"train_{name}"


def own_metrics(given: Metrics) -> Metrics:
    """The metrics of a report that only this algorithm or local update has.

    Raises:
      InputError: another name than text.
    """
    for name in given:
        if not isinstance(name, str):
            raise InputError(f"a metric of a report must have a name, not {name!r}")
    return {name: x for name, x in given.items() if name not in _KNOWN}


def named(algorithm: Algorithm) -> Algorithm:
    """The algorithm whose functions' errors say which of them it was."""
    changed: dict[str, Any] = {
        name: returned.named(f"the algorithm's {name}", function)
        for name, function in algorithm._asdict().items()
        if callable(function)
    }
    if (begin := algorithm.begin) is not None:
        run = returned.named("the algorithm's begin", begin.run)
        changed["begin"] = begin._replace(run=run)
    if (tiers := algorithm.tiers) is not None:
        each = tuple(
            Tier(*(returned.named(f"the algorithm's {n}", f) for n, f in kind))
            for kind in (tier._asdict().items() for tier in tiers.each)
        )
        changed["tiers"] = tiers._replace(each=each)
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
    metrics = figures.of_report("a report", found.metrics)
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


def observed(found: Any, taken: Collection[str] = OWN_NAMES) -> Metrics:
    """What the algorithm observes, if it can stand in a record.

    Args:
      found: as it came back.
      taken: names that the record has already.

    Raises:
      InputError: such a name, or a value that is not one number.
    """
    if not isinstance(found, dict):
        kind = returned.describe(found)
        raise InputError(f"the algorithm's observe must give a dict, not {kind}")
    for name, value in found.items():
        if name in taken:
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
    params = parts.parameters("the model's init", params)
    for path, leaf in returned.leaves(params).items():
        bad = np.size(leaf) - np.count_nonzero(np.isfinite(np.asarray(leaf)))
        if bad:
            raise InputError(
                f"parameter {path} has {bad} elements that are not finite before the "
                "first round; mend the model's init"
            )
    return jax.tree.map(jnp.asarray, params)
