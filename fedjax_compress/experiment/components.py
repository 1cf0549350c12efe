"""The parts of a run, each from its SPEC: checked before anything is trained."""

from __future__ import annotations

import dataclasses
import traceback
from typing import Any, NamedTuple

import jax

from fedjax_compress import compress, registry, spec
from fedjax_compress.checks import parts as checked
from fedjax_compress.checks import returned
from fedjax_compress.clock import Clock
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import (
    FIELDS,
    LINKS,
    SPECS,
    Config,
    Role,
    named,
    recorded,
    validate,
    with_field,
)
from fedjax_compress.models import augmented
from fedjax_compress.numerics import by_round
from fedjax_compress.registry import imports
from fedjax_compress.runtime import host
from fedjax_compress.typing import (
    Aggregator,
    Algorithm,
    Columns,
    Compressor,
    LocalUpdate,
    Model,
    Params,
    Population,
    ServerOptimizer,
    Setup,
    Task,
)

_TYPES: dict[str, Any] = {
    "data": Dataset,
    "model": Model,
    "qat": Model,
    "local": LocalUpdate,
    "server": ServerOptimizer,
    "aggregate": Aggregator,
    "algorithm": Algorithm,
    "link": Compressor,
    "clock": Clock,
}
"""What a SPEC of a kind makes, where that is no function."""


def check_specs(config: Config) -> None:
    """Checks every SPEC that can be checked without the data.

    Raises:
      InputError: names the setting, what is wrong, and what would be right.
    """
    validate(config)
    imports.bring(config.imports)
    early, steps = named(Role.EARLY), named(Role.STEPS)
    for name in SPECS:
        value = getattr(config, name)
        if name in LINKS:
            phases_of(config, name)
        elif name in steps and name in early:
            steps_of(config, name)
        elif name in early or not (isinstance(value, str) or callable(value)):
            made(config, name)
        elif isinstance(value, str) and name in steps:
            with_field(name, by_round.check, name, value)
        elif isinstance(value, str):
            with_field(name, registry.check_spec, name, value)


def made(config: Config, name: str, *context: Any) -> Any:
    """What the SPEC of a setting makes, or the object in its place.

    An object that is a function makes it from the context, where there is any; so does
    an algorithm always, since its links and the rest are settings as well.

    Raises:
      InputError: the SPEC cannot be used, or the object is another one than is wanted.
    """
    value = found = getattr(config, name)
    if isinstance(value, str):
        found = with_field(name, registry.build, name, value, *context)
    elif context and callable(value):
        with returned.within(f"the object given for {name}"):
            found = value(*context)
    wanted = _TYPES.get(FIELDS[name].metadata["kind"])
    if isinstance(value, str) and (context or wanted):
        return found  # checked where it is used
    if found is value and wanted is Algorithm:
        wanted = None
    if isinstance(found, wanted) if wanted else callable(found):
        return found
    text = getattr(recorded(config), name)
    words = f"a {wanted.__name__}" if wanted else "a function"
    if wanted is Compressor:
        words += ", as compress.on_leaves(stage) does"
    raise InputError(
        f"{name}: {text} must give {words}, not {returned.describe(found)}"
    )


def phases_of(config: Config, name: str) -> list[compress.Phase]:
    """The compressors of a link; an object is one for the whole run."""
    value = getattr(config, name)
    if isinstance(value, str):
        found: list[compress.Phase] = with_field(name, compress.phases, value)
        return found
    return [compress.Phase(0, getattr(recorded(config), name), made(config, name))]


def steps_of(config: Config, name: str, *context: Any) -> list[by_round.Phase]:
    """What clients, or the server, do, phase by phase; an object for the whole run."""
    value = getattr(config, name)
    if isinstance(value, str):
        found: list[by_round.Phase] = with_field(
            name, by_round.phases, name, value, *context
        )
        return found
    return [by_round.Phase(0, made(config, name, *context))]


def network(config: Config, task: Task) -> Model:
    """The network of a run: quantized as clients train it, on augmented features.

    Raises:
      InputError: an option that does not fit the task or the network.
    """
    change = made(config, "augment", task)
    # A change has divided the features already.
    task = task if change is None else task._replace(scale=1.0)
    model = with_field("model", _fitting, config, task)
    model = made(config, "qat", model, task)
    return model if change is None else augmented(model, change)


def _fitting(config: Config, task: Task) -> Model:
    """The model.

    One of ours that raises does not fit. One's own does not if flax or jax refuse what
    it asks for; what its own lines raise is a bug of theirs, and stays as it is.
    """
    text = recorded(config).model
    try:
        with returned.within(f"the model {text}"):
            found: Model = made(config, "model", task)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if not (_from_here(config, "model") or _raised_by(error) in _LIBRARIES):
            raise
        raise InputError(_no_fit(text, task, error)) from error
    return found


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
    return all(_from_here(config, name) for name in named(Role.NETWORK))


def _from_here(config: Config, name: str) -> bool:
    """Whether what a setting names is part of this package."""
    text = getattr(config, name)
    if not isinstance(text, str):
        return False
    return registry.lookup(spec.parse(text).calls[0], name).is_ours


class Course(NamedTuple):
    """The algorithm of a run, and those that take over where a schedule says so.

    Attributes:
      first: one client and one server step, from round 1 on.
      later: (finished rounds, algorithm) of each phase after the first.
      locals: what clients compute, in each phase.
    """

    first: Algorithm
    later: list[tuple[int, Algorithm]]
    locals: tuple[LocalUpdate, ...] = ()


def build_course(
    config: Config,
    model: Model,
    population: Population | None = None,
    public: Columns | None = None,
) -> Course:
    """One client and one server step, in each phase of what changes over rounds."""

    def another(text: str, quantized: bool) -> Model:
        assert population is not None
        qat = config.qat if quantized else "none"
        changed = dataclasses.replace(config, model=text, qat=qat)
        return network(changed, population.task)

    mean = made(config, "aggregate")
    steps = [steps_of(config, "local", model), steps_of(config, "server")]
    links = [phases_of(config, name) for name in LINKS]
    found, locals_ = [], []
    begins = {phase.after for each in steps for phase in each}
    begins |= {phase.after for each in links for phase in each}
    for after in sorted(begins):
        local, server = (_last(each, after).part for each in steps)
        up, down = (_last(each, after).compressor for each in links)
        setup = Setup(local, mean, server, up, down, population, public or {}, another)
        locals_.append(local)
        found.append((after, made(config, "algorithm", setup)))
    return Course(found[0][1], found[1:], tuple(locals_))


def _last(phases: list[Any], after: int) -> Any:
    """The phase that holds after so many rounds."""
    return next(p for p in reversed(phases) if p.after <= after)


def check_links(config: Config, params: Params, algorithm: Algorithm) -> None:
    """Checks that both links fit what they get, some of whose leaves they may name.

    Raises:
      InputError: names the setting and what does not fit.
    """
    for name in LINKS:
        for phase in phases_of(config, name):
            like = getattr(algorithm, "links", {}).get(name, params)
            with_field(name, jax.eval_shape, phase.compressor.init, like)
