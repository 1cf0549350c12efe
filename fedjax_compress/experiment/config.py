"""The configuration of a run: typed, frozen, complete, and checked."""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fedjax_compress import spec
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.registry import nearest


class Role(enum.Flag):
    """What a setting has a say in. Every list of settings is made from these.

    Attributes:
      ROWS: who has which rows.
      NETWORK: the network that clients train.
      PROGRAM: the compiled round, beside the shapes of its inputs.
      LAYOUT: how that lies on the machine; 0 and auto leave it to the engine.
      SPEED: which layout is the fastest, beside the program.
      EARLY: what is made before there are data.
      RESUME: ``resume`` may be given another value.
      FREE: checkpoints do not depend on it.
      ASIDE: nothing follows from it once a run has begun.
      SHARED: all schemes of a grid have the same.
      SCHEME: ``compare`` takes it from the schemes.
      SIZE: ``size`` takes it.
      LATER: the first runs did not know it; they had the default.
    """

    NONE = 0
    ROWS = enum.auto()
    NETWORK = enum.auto()
    PROGRAM = enum.auto()
    LAYOUT = enum.auto()
    SPEED = enum.auto()
    EARLY = enum.auto()
    RESUME = enum.auto()
    FREE = enum.auto()
    ASIDE = enum.auto()
    SHARED = enum.auto()
    SCHEME = enum.auto()
    SIZE = enum.auto()
    LATER = enum.auto()


def _option(
    default: Any,
    text: str,
    roles: Role = Role.NONE,
    *,
    kind: str = "",
    least: int | None = None,
    most: int = 2**31 - 1,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field with its description, its roles, and its bounds or choices.

    A SPEC has the ``kind`` of names that it may begin with, ``link`` for both links.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": text,
            "roles": roles,
            "kind": kind,
            "spec": bool(kind),
            "least": least,
            "most": most,
            "choices": choices,
        },
    )


_NETWORK = Role.NETWORK | Role.PROGRAM


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on.

    Two equal configurations on the same kind of device give the same numbers. SPECs are
    texts such as ``dirichlet(alpha=0.5)``; ``fedjax-compress list``
    shows what they may say. Values are not checked when constructed but by
    ``validate``, which the runner calls first.
    """

    data: str = _option(
        "digits",
        "data set, as in digits or npz(path='my/data.npz')",
        Role.ROWS | Role.SIZE,
        kind="data",
    )
    partition: str = _option(
        "dirichlet(alpha=0.5)",
        "how rows are dealt to clients",
        Role.ROWS | Role.EARLY,
        kind="partition",
    )
    clients: int = _option(
        0,
        "number of clients; 0: 100, or the data's own if natural or blocks",
        Role.ROWS,
        least=0,
    )
    cohort: int = _option(
        20, "clients that take part in each round", Role.ROWS | Role.SPEED, least=1
    )
    rounds: int = _option(100, "number of rounds", Role.RESUME | Role.FREE, least=1)
    seed: int = _option(
        0,
        "everything random follows from it: split, model, cohorts, noise",
        Role.ROWS | Role.SHARED | Role.SIZE,
        least=0,
    )
    model: str = _option(
        "mlp(hidden=(128, 64))",
        "model that is trained",
        _NETWORK | Role.SIZE,
        kind="model",
    )
    augment: str = _option(
        "none",
        "how examples are changed at random while training, and normalised, as in "
        "crop_flip",
        _NETWORK | Role.LATER,
        kind="augment",
    )
    qat: str = _option(
        "none",
        "quantization-aware training: weights that clients compute with, as in "
        "integer(bits=4) or binary",
        _NETWORK | Role.LATER | Role.SIZE,
        kind="qat",
    )
    local: str = _option(
        "sgd(lr=0.1, epochs=2, batch=10)",
        "what one client computes on its own data",
        Role.PROGRAM,
        kind="local",
    )
    server: str = _option(
        "fedavgm(lr=1.0, momentum=0.9)",
        "optimizer of the server, as in fedavg or fedadam(lr=0.01)",
        Role.PROGRAM | Role.EARLY,
        kind="server",
    )
    aggregate: str = _option(
        "mean",
        "how the clients' updates become one",
        Role.PROGRAM | Role.EARLY,
        kind="aggregate",
    )
    sampling: str = _option(
        "uniform", "how the cohort of a round is drawn", Role.EARLY, kind="sampling"
    )
    uplink: str = _option(
        "hadamard | uniform(bits=3)",
        "compression of what clients send, a pipe of stages",
        Role.PROGRAM | Role.SCHEME | Role.SIZE,
        kind="link",
    )
    downlink: str = _option(
        "hadamard | uniform(bits=6)",
        "compression of what the server sends",
        Role.PROGRAM | Role.SIZE,
        kind="link",
    )
    algorithm: str = _option(
        "fedavg", "algorithm that joins the parts above", Role.PROGRAM, kind="algorithm"
    )
    devices: int = _option(
        0,
        "devices over which the cohort is spread, of all processes together; a CPU "
        "appears as so many; 0: chosen",
        Role.LAYOUT | Role.RESUME | Role.FREE | Role.SHARED,
        least=0,
        most=1024,
    )
    lanes: int = _option(
        0, "clients trained side by side on a device; 0: chosen", Role.LAYOUT, least=0
    )
    convolution: str = _option(
        "auto",
        "how convolutions are computed: patches, winograd or direct; auto: chosen",
        Role.LAYOUT,
        choices=("auto", "patches", "winograd", "direct"),
    )
    tune: str = _option(
        "auto",
        "search for the fastest lanes, devices and convolution if none is given: "
        "always, never, or auto: for long runs",
        Role.RESUME | Role.FREE | Role.ASIDE,
        choices=("auto", "always", "never"),
    )
    rounds_per_call: int = _option(
        1, "rounds in one call of the compiled program", least=1
    )
    evaluate_every: int = _option(
        5, "rounds between evaluations on the test data; the last is always", least=1
    )
    evaluate_clients: bool = _option(
        False,
        "also score each client on its own test rows: mean and 10th percentile",
        Role.ROWS,
    )
    checkpoint_every: int = _option(
        20, "rounds between checkpoints", Role.FREE, least=1
    )
    keep: int = _option(2, "number of checkpoints to keep", Role.FREE, least=1)
    imports: tuple[str, ...] = _option(
        (),
        "Python file of your own, imported for the names that it registers",
        Role.RESUME | Role.FREE | Role.ASIDE | Role.SHARED,
    )

    def __post_init__(self) -> None:
        if self.imports and _are_texts(self.imports):
            whole = tuple(str(Path(path).absolute()) for path in self.imports)
            object.__setattr__(self, "imports", whole)


def _are_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(v) is str for v in value)


FIELDS: dict[str, dataclasses.Field[Any]] = {
    field.name: field for field in dataclasses.fields(Config)
}
TYPES: dict[str, type] = typing.get_type_hints(Config)
SPECS = [name for name, field in FIELDS.items() if field.metadata["spec"]]
LINKS = [name for name in SPECS if FIELDS[name].metadata["kind"] == "link"]


def named(roles: Role) -> list[str]:
    """The settings that have any of these roles, in order."""
    return [name for name in FIELDS if FIELDS[name].metadata["roles"] & roles]


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
    lists = {n: tuple(v) for n, v in values.items() if isinstance(v, list)}
    return Config(**values | lists)


_WORDS = {str: "text in quotes", int: "a whole number", bool: "true or false"}


def check_type(name: str, value: Any, source: str = "configuration") -> None:
    """Raises InputError unless ``value`` has the type of the field ``name``."""
    wanted = TYPES[name]
    if not (_are_texts(value) if wanted not in _WORDS else type(value) is wanted):
        words = _WORDS.get(wanted, "a list of names of files, in quotes")
        raise InputError(f"{source}: {name} must be {words}, not {value!r}")


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


def difference(wanted: Config, found: Config, ignore: Collection[str] = ()) -> str:
    """The settings that differ, as ``name (wanted x, found y)``; empty if none."""
    parts = []
    for name in FIELDS:
        a, b = getattr(wanted, name), getattr(found, name)
        if a != b and name not in ignore:
            parts.append(f"{name} (wanted {a!r}, found {b!r})")
    return ", ".join(parts)
