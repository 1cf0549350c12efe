"""The configuration of a run: typed, frozen, complete, and checked."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from fedjax_compress import spec
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.registry import nearest


def _option(
    default: Any,
    text: str,
    *,
    least: int | None = None,
    most: int = 2**31 - 1,
    text_form: bool = False,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field with its description, bounds or choices, and whether it is a SPEC."""
    return dataclasses.field(
        default=default,
        metadata={
            "help": text,
            "least": least,
            "most": most,
            "spec": text_form,
            "choices": choices,
        },
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on.

    Two equal configurations on the same kind of device give the same numbers. Fields
    marked SPEC are texts such as ``dirichlet(alpha=0.5)``; ``fedjax-compress list``
    shows what they may say. Values are not checked when constructed but by
    ``validate``, which the runner calls first.
    """

    data: str = _option(
        "digits", "data set, as in digits or npz(path='my/data.npz')", text_form=True
    )
    partition: str = _option(
        "dirichlet(alpha=0.5)", "how rows are dealt to clients", text_form=True
    )
    clients: int = _option(
        0, "number of clients; 0: 100, or the data's own if natural or blocks", least=0
    )
    cohort: int = _option(20, "clients that take part in each round", least=1)
    rounds: int = _option(100, "number of rounds", least=1)
    seed: int = _option(
        0, "everything random follows from it: split, model, cohorts, noise", least=0
    )
    model: str = _option(
        "mlp(hidden=(128, 64))", "model that is trained", text_form=True
    )
    augment: str = _option(
        "none",
        "how examples are changed at random while training, and normalised, as in "
        "crop_flip",
        text_form=True,
    )
    qat: str = _option(
        "none",
        "quantization-aware training: weights that clients compute with, as in "
        "integer(bits=4) or binary",
        text_form=True,
    )
    local: str = _option(
        "sgd(lr=0.1, epochs=2, batch=10)",
        "what one client computes on its own data",
        text_form=True,
    )
    server: str = _option(
        "fedavgm(lr=1.0, momentum=0.9)",
        "optimizer of the server, as in fedavg or fedadam(lr=0.01)",
        text_form=True,
    )
    aggregate: str = _option(
        "mean", "how the clients' updates become one", text_form=True
    )
    sampling: str = _option(
        "uniform", "how the cohort of a round is drawn", text_form=True
    )
    uplink: str = _option(
        "hadamard | uniform(bits=3)",
        "compression of what clients send, a pipe of stages",
        text_form=True,
    )
    downlink: str = _option(
        "hadamard | uniform(bits=6)",
        "compression of what the server sends",
        text_form=True,
    )
    algorithm: str = _option(
        "fedavg", "algorithm that joins the parts above", text_form=True
    )
    devices: int = _option(
        0,
        "devices over which the cohort is spread, of all processes together; a CPU "
        "appears as so many; 0: chosen",
        least=0,
        most=1024,
    )
    lanes: int = _option(
        0, "clients trained side by side on a device; 0: chosen", least=0
    )
    convolution: str = _option(
        "auto",
        "how convolutions are computed: patches, winograd or direct; auto: chosen",
        choices=("auto", "patches", "winograd", "direct"),
    )
    tune: str = _option(
        "auto",
        "search for the fastest lanes, devices and convolution if none is given: "
        "always, never, or auto: for long runs",
        choices=("auto", "always", "never"),
    )
    rounds_per_call: int = _option(
        1, "rounds in one call of the compiled program", least=1
    )
    evaluate_every: int = _option(
        5, "rounds between evaluations on the test data; the last is always", least=1
    )
    evaluate_clients: bool = _option(
        False, "also score each client on its own test rows: mean and 10th percentile"
    )
    checkpoint_every: int = _option(20, "rounds between checkpoints", least=1)
    keep: int = _option(2, "number of checkpoints to keep", least=1)


FIELDS: dict[str, dataclasses.Field[Any]] = {
    field.name: field for field in dataclasses.fields(Config)
}
TYPES: dict[str, type] = typing.get_type_hints(Config)
SPECS = [name for name, field in FIELDS.items() if field.metadata["spec"]]


def from_dict(values: dict[str, Any], source: str = "configuration") -> Config:
    """A configuration from names and values; what is absent has its default.

    Raises:
      InputError: unknown name (with the nearest), or a value of the wrong type.
    """
    for name, value in values.items():
        if name not in FIELDS:
            hint = nearest(name, list(FIELDS))
            raise InputError(f"{source}: unknown setting {name!r}; {hint}")
        check_type(name, value, source)
    return Config(**values)


def check_type(name: str, value: Any, source: str = "configuration") -> None:
    """Raises InputError unless ``value`` has the type of the field ``name``."""
    if type(value) is not TYPES[name]:
        words = {str: "text in quotes", int: "a whole number", bool: "true or false"}
        raise InputError(
            f"{source}: {name} must be {words[TYPES[name]]}, not {value!r}"
        )


def validate(config: Config) -> None:
    """Checks types, bounds, and the syntax of every SPEC; imports nothing heavy.

    Raises:
      InputError: what is wrong and what would be right, in one line. For a SPEC the
        text and a caret follow.
    """
    for name in FIELDS:
        value = getattr(config, name)
        check_type(name, value)
        least, most = (FIELDS[name].metadata[bound] for bound in ("least", "most"))
        if least is not None and not least <= value <= most:
            raise InputError(f"{name} must be between {least} and {most}, not {value}")
        choices = FIELDS[name].metadata["choices"]
        if choices and value not in choices:
            hint = nearest(value, list(choices))
            raise InputError(f"{name} cannot be {value!r}; {hint}")
    if 0 < config.clients < config.cohort:
        raise InputError(
            f"cohort is {config.cohort}, but there are only {config.clients} clients; "
            f"cohort can be at most {config.clients}"
        )
    for name in SPECS:
        with_field(name, spec.parse, getattr(config, name))


def with_field(name: str, function: Any, *args: Any) -> Any:
    """``function(*args)``, its SpecError prefixed with the setting it belongs to."""
    try:
        return function(*args)
    except SpecError as error:
        reason = f"{name}: {error.reason}"
        raise SpecError(reason, error.text, error.position) from None
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def difference(wanted: Config, found: Config, ignore: tuple[str, ...] = ()) -> str:
    """The settings that differ, as ``name (wanted x, found y)``; empty if none."""
    parts = []
    for name in FIELDS:
        a, b = getattr(wanted, name), getattr(found, name)
        if a != b and name not in ignore:
            parts.append(f"{name} (wanted {a!r}, found {b!r})")
    return ", ".join(parts)
