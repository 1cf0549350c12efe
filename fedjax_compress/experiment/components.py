"""The parts of a run, each from its SPEC: checked before anything is trained."""

from __future__ import annotations

import traceback
from typing import Any, NamedTuple

import jax

from fedjax_compress import checked, compress, registry, returned, spec
from fedjax_compress.clients import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import Config, validate, with_field
from fedjax_compress.models import augmented
from fedjax_compress.simulate import host
from fedjax_compress.typing import Algorithm, Model, Params, Setup, Task


def check_specs(config: Config) -> None:
    """Checks every SPEC that can be checked without the data.

    Raises:
      InputError: names the setting, what is wrong, and what would be right.
    """
    validate(config)
    for name in ("partition", "sampling", "server", "aggregate"):
        made = with_field(name, registry.build, name, getattr(config, name))
        if name in ("partition", "sampling") and not callable(made):
            text, found = getattr(config, name), returned.describe(made)
            raise InputError(f"{name}: {text} must give a function, not {found}")
    for name in ("uplink", "downlink"):
        with_field(name, compress.phases, getattr(config, name))
    for name in ("data", "model", "augment", "qat", "local", "algorithm"):
        with_field(name, registry.check_spec, name, getattr(config, name))


def network(config: Config, task: Task) -> Model:
    """The network of a run: quantized as clients train it, on augmented features.

    Raises:
      InputError: an option that does not fit the task or the network.
    """
    change = with_field("augment", registry.build, "augment", config.augment, task)
    # A change has divided the features already.
    task = task if change is None else task._replace(scale=1.0)
    model = with_field("model", _fitting, config.model, task)
    model = with_field("qat", registry.build, "qat", config.qat, model, task)
    return model if change is None else augmented(model, change)


def _fitting(text: str, task: Task) -> Model:
    """The model of a SPEC.

    One of ours that raises does not fit. One's own does not if flax or jax refuse what
    it asks for; what its own lines raise is a bug of theirs, and stays as it is.
    """
    try:
        with returned.within(f"the model {text}"):
            made: Model = registry.build("model", text, task)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if not (_from_here("model", text) or _raised_by(error) in _LIBRARIES):
            raise
        raise InputError(_no_fit(text, task, error)) from error
    return made


_LIBRARIES = ("flax", "jax", "numpy")


def _raised_by(error: Exception) -> str:
    """The package whose line raised it."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).split(".")[0]


def _no_fit(text: str, task: Task, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{text} does not fit examples of shape {tuple(task.shape)}: {reason}"


def build_model(config: Config, dataset: Dataset) -> Model:
    """The model, checked to fit the data by tracing what it makes of two rows.

    Raises:
      InputError: it does not fit, or a function of it gives back another shape than
        ``typing.Model`` says.
      Exception: what a model from outside this package raises while it is traced.
    """
    host.start_devices()
    model = with_field("model", checked.model, network(config, dataset.task))
    rows = {name: x[:2] for name, x in dataset.train.items()}

    def score(key: Any, columns: Any) -> Any:
        params = model.init(key)
        outputs = model.apply(params, columns, None)
        kept = params if model.constrain is None else model.constrain(params)
        counts = [
            metric.count(params, columns, outputs) for metric in model.metrics.values()
        ]
        return model.losses(outputs, columns), counts, kept

    try:
        jax.eval_shape(score, jax.random.key(0), rows)
    except InputError as error:
        raise InputError(f"model: {error}") from None
    except Exception as error:
        if not _is_ours(config):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"model: {config.model} does not fit the data {dataset.name}, whose "
            f"examples have shape {tuple(dataset.task.shape)}: {reason}"
        ) from error
    return model


def _is_ours(config: Config) -> bool:
    """Whether all of the network comes from this package, so that it has no bug."""
    kinds = ("model", "qat", "augment")
    return all(_from_here(kind, getattr(config, kind)) for kind in kinds)


def _from_here(kind: str, text: str) -> bool:
    """Whether what a SPEC names is part of this package."""
    home = registry.lookup(spec.parse(text).calls[0], kind).factory.__module__
    return home.split(".")[0] == __package__.split(".")[0]


class Course(NamedTuple):
    """The algorithm of a run, and those that take over where a schedule says so.

    Attributes:
      first: one client and one server step, from round 1 on.
      later: (finished rounds, algorithm) of each phase after the first.
    """

    first: Algorithm
    later: list[tuple[int, Algorithm]]


def build_course(config: Config, model: Model) -> Course:
    """One client and one server step, in each phase of the links' schedules."""
    local = with_field("local", registry.build, "local", config.local, model)
    mean = with_field("aggregate", registry.build, "aggregate", config.aggregate)
    server = with_field("server", registry.build, "server", config.server)
    up = with_field("uplink", compress.phases, config.uplink)
    down = with_field("downlink", compress.phases, config.downlink)
    found = []
    for after in sorted({phase.after for phase in (*up, *down)}):
        links = [
            next(p for p in reversed(phases) if p.after <= after).compressor
            for phases in (up, down)
        ]
        algorithm = with_field(
            "algorithm",
            registry.build,
            "algorithm",
            config.algorithm,
            Setup(local, mean, server, *links),
        )
        found.append((after, algorithm))
    return Course(found[0][1], found[1:])


def check_links(config: Config, params: Params) -> None:
    """Checks that both links fit the model, some of whose leaves they may name.

    Raises:
      InputError: names the setting and what does not fit.
    """
    for name in ("uplink", "downlink"):
        for phase in compress.phases(getattr(config, name)):
            with_field(name, jax.eval_shape, phase.compressor.init, params)
