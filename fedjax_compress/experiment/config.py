"""The configuration of a run: typed, frozen, complete, and checked."""

from __future__ import annotations

# ruff: noqa: RUF009 (an option is a field)
import dataclasses
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeAlias

from fedjax_compress import spec
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.experiment.settings import Role, option
from fedjax_compress.registry import nearest

Spec: TypeAlias = Any
"""A text such as ``dirichlet(alpha=0.5)``, or the object that it would make."""
_NETWORK = Role.NETWORK | Role.PROGRAM


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on.

    Two equal configurations on the same kind of device give the same numbers. SPECs are
    texts such as ``dirichlet(alpha=0.5)``; ``fedjax-compress list`` shows what they may
    say. In their place may stand the objects that they would make: a ``Dataset``, a
    ``Model``, a ``LocalUpdate``, a ``Compressor`` and so on, or for ``model``,
    ``augment``, ``qat``, ``local`` and ``algorithm`` a function that makes it as the
    registered ones do, from the task, the model or the other parts. Values are not
    checked when constructed but by ``validate``, which the runner calls first.
    """

    data: Spec = option(
        "digits",
        "data set, as in digits or npz(path='my/data.npz')",
        Role.ROWS | Role.SIZE | Role.DEAL,
        kind="data",
    )
    public: Spec = option(
        "none",
        "rows that no client has, for algorithms that need some, as in held_out(0.1), "
        "noise(2000) or source(npz(path='my/public.npz'))",
        Role.ROWS | Role.EARLY | Role.LATER | Role.DEAL,
        kind="public",
    )
    partition: Spec = option(
        "dirichlet(alpha=0.5)",
        "how rows are dealt to clients",
        Role.ROWS | Role.EARLY | Role.DEAL,
        kind="partition",
    )
    clients: int = option(
        0,
        "number of clients; 0: 100, or the data's own if natural or blocks",
        Role.ROWS | Role.DEAL,
        least=0,
    )
    cohort: int = option(
        20, "clients that take part in each round", Role.ROWS | Role.SPEED, least=1
    )
    rounds: int = option(100, "number of rounds", Role.RESUME | Role.FREE, least=1)
    seed: int = option(
        0,
        "everything random follows from it: split, model, cohorts, noise",
        Role.ROWS | Role.SHARED | Role.SIZE | Role.DEAL,
        least=0,
    )
    model: Spec = option(
        "mlp(hidden=(128, 64))",
        "model that is trained",
        _NETWORK | Role.SIZE,
        kind="model",
    )
    augment: Spec = option(
        "none",
        "how examples are changed at random while training, and normalised, as in "
        "crop_flip",
        _NETWORK | Role.LATER,
        kind="augment",
    )
    qat: Spec = option(
        "none",
        "quantization-aware training: weights that clients compute with, as in "
        "integer(bits=4) or binary",
        _NETWORK | Role.LATER | Role.SIZE,
        kind="qat",
    )
    local: Spec = option(
        "sgd(lr=0.1, epochs=2, batch=10)",
        "what one client computes on its own data",
        Role.PROGRAM | Role.STEPS,
        kind="local",
    )
    server: Spec = option(
        "fedavgm(lr=1.0, momentum=0.9)",
        "optimizer of the server, as in fedavg or fedadam(lr=0.01)",
        Role.PROGRAM | Role.EARLY | Role.STEPS,
        kind="server",
    )
    aggregate: Spec = option(
        "mean",
        "how the clients' updates become one",
        Role.PROGRAM | Role.EARLY,
        kind="aggregate",
    )
    sampling: Spec = option(
        "uniform", "how the cohort of a round is drawn", Role.EARLY, kind="sampling"
    )
    uplink: Spec = option(
        "hadamard | uniform(bits=3)",
        "compression of what clients send, a pipe of stages",
        Role.PROGRAM | Role.SCHEME | Role.SIZE,
        kind="link",
    )
    downlink: Spec = option(
        "hadamard | uniform(bits=6)",
        "compression of what the server sends",
        Role.PROGRAM | Role.SIZE,
        kind="link",
    )
    algorithm: Spec = option(
        "fedavg", "algorithm that joins the parts above", Role.PROGRAM, kind="algorithm"
    )
    clock: Spec = option(
        "none",
        "virtual time: links, devices and whom a round waits for, a pipe, as in "
        "network(mobile_2020) | devices(phone) | over_selection(1.3)",
        Role.EARLY | Role.LATER,
        kind="clock",
    )
    devices: int = option(
        0,
        "devices over which the cohort is spread, of all processes together; a CPU "
        "appears as so many; 0: chosen",
        Role.LAYOUT | Role.RESUME | Role.FREE | Role.SHARED,
        least=0,
        most=1024,
    )
    lanes: int = option(
        0, "clients trained side by side on a device; 0: chosen", Role.LAYOUT, least=0
    )
    convolution: str = option(
        "auto",
        "how convolutions are computed: patches, winograd or direct; auto: chosen",
        Role.LAYOUT,
        choices=("auto", "patches", "winograd", "direct"),
    )
    tune: str = option(
        "auto",
        "search for the fastest lanes, devices and convolution if none is given: "
        "always, never, or auto: for long runs",
        Role.RESUME | Role.FREE | Role.ASIDE,
        choices=("auto", "always", "never"),
    )
    rounds_per_call: int = option(
        1, "rounds in one call of the compiled program", least=1
    )
    evaluate_every: int = option(
        5, "rounds between evaluations on the test data; the last is always", least=1
    )
    evaluate_clients: bool = option(
        False,
        "also score each client on its own test rows: mean and 10th percentile",
        Role.ROWS,
    )
    checkpoint_every: int = option(20, "rounds between checkpoints", Role.FREE, least=1)
    keep: int = option(2, "number of checkpoints to keep", Role.FREE, least=1)
    imports: tuple[str, ...] = option(
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
SPECS = [name for name, field in FIELDS.items() if field.metadata["spec"]]
TYPES: dict[str, Any] = typing.get_type_hints(Config) | dict.fromkeys(SPECS, str)
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


_PLAIN = (int, float, bool, str, bytes, list, dict, set, tuple, type(None))
_WORDS = {str: "text in quotes", int: "a whole number", bool: "true or false"}


def check_type(name: str, value: Any, source: str = "configuration") -> None:
    """Raises InputError unless ``value`` has the type of the field ``name``.

    A SPEC may be any object that is no plain value, as those of TOML are.
    """
    wanted = TYPES[name]
    if name in SPECS and type(value) not in _PLAIN:
        return
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
        text = getattr(config, name)
        if is_object(text):
            raise InputError(
                f"{name} was {text} in Python and cannot be read back; give it again"
            )
        if isinstance(text, str):
            with_field(name, spec.parse, text)


def with_field(name: str, function: Any, *args: Any) -> Any:
    """``function(*args)``, its SpecError prefixed with the setting it belongs to."""

    def prefixed(reason: str) -> str:
        known = reason.startswith(f"{name}: ")  # of a model within a model
        return reason if known else f"{name}: {reason}"

    try:
        return function(*args)
    except SpecError as error:
        raise SpecError(prefixed(error.reason), error.text, error.position) from None
    except InputError as error:
        raise InputError(prefixed(str(error))) from None


def objects_of(config: Config) -> dict[str, Any]:
    """The SPECs that are given as objects."""
    values = {name: getattr(config, name) for name in SPECS}
    return {n: value for n, value in values.items() if not isinstance(value, str)}


def recorded(config: Config) -> Config:
    """The configuration as files keep it: texts in the place of objects."""
    texts: dict[str, Any] = {n: _text_of(v) for n, v in objects_of(config).items()}
    return dataclasses.replace(config, **texts)


_OBJECT = "<object: "


def is_object(text: Any) -> bool:
    """Whether a SPEC that was read from a file was an object."""
    return isinstance(text, str) and text.startswith(_OBJECT)


def _text_of(value: Any) -> str:
    """What an object is called: by its name, or by the function that has made it."""
    kind, name = type(value).__name__, getattr(value, "name", None)
    if not isinstance(name, str):
        inner = [value, *(value if isinstance(value, tuple) else ())]
        made = [getattr(one, "func", one) for one in inner]
        names = (getattr(one, "__qualname__", "") for one in made)
        name = next((n.split(".")[0] for n in names if n), "")
    plain = callable(value) and hasattr(value, "__qualname__")
    return f"{_OBJECT}{name if plain else f'{kind} {name}'.rstrip()}>"


def difference(wanted: Config, found: Config, ignore: Collection[str] = ()) -> str:
    """The settings that differ, as ``name (wanted x, found y)``; empty if none."""
    parts = []
    for name in FIELDS:
        a, b = getattr(wanted, name), getattr(found, name)
        if a != b and name not in ignore:
            parts.append(f"{name} (wanted {a!r}, found {b!r})")
    return ", ".join(parts)
