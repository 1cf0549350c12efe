"""From what is asked for to the cases that are measured side by side."""

from __future__ import annotations

from typing import NamedTuple, get_args

from fedjax_compress import clock, compress
from fedjax_compress.bench.case import BOUND, DEFAULT_CLIENTS, LOOP, Case
from fedjax_compress.bench.overhead import IDENTITY, links
from fedjax_compress.bench.workloads import KINDS, check
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.models.convolution.forms import Form
from fedjax_compress.registry import check_spec, nearest

SWEPT = (
    "clients", "population", "lanes", "devices", "convolution", "uplink", "algorithm",
    "qat", "clock",
)  # fmt: skip
"""What a sweep may vary."""
_SPECS = {
    "uplink": "identity;qsgd(bits=4)",
    "algorithm": "fedavg;federated_dropout(keep_rate=0.75)",
    "qat": "none;integer(bits=4)",
    "clock": "none;network(mobile_2020) | devices(phone)",
}
"""Specifications that a sweep may vary, with an example; they hold commas."""
_MOST_DEVICES = 1024


class Request(NamedTuple):
    """What is asked for; the meaning of each is that of the command's option.

    ``workload`` None means all; ``clients`` None those of ``DEFAULT_CLIENTS``. With
    ``overhead``, ``uplink`` may be several specifications joined by ``;``.
    """

    workload: str | None = None
    clients: int | None = None
    rounds: int = 5
    compare: bool = False
    lanes: int = 0
    devices: int = 0
    convolution: Form = "auto"
    tune: bool = False
    uplink: str = "identity"
    downlink: str = "identity"
    population: int = 0
    algorithm: str = "fedavg"
    model: str = ""
    qat: str = "none"
    clock: str = "none"
    sweep: str | None = None
    overhead: bool = False


def plan(request: Request) -> list[list[Case]]:
    """Groups of cases; those of a group are measured in turn.

    Raises:
      InputError: something that cannot be measured; nothing has been started yet.
    """
    _check(request)
    names = [request.workload] if request.workload is not None else list(KINDS)
    groups: list[list[Case]] = []
    for name in names:
        clients = request.clients
        if clients is None:
            clients = DEFAULT_CLIENTS.get(name, 1)
        case = Case(
            name,
            clients,
            population=request.population,
            lanes=request.lanes,
            devices=request.devices,
            convolution=request.convolution,
            tune=request.tune,
            uplink=request.uplink,
            downlink=request.downlink,
            algorithm=request.algorithm,
            model=request.model,
            qat=request.qat,
            clock=request.clock,
        )
        groups += _groups(request, case)
    for group in groups:
        for case in group:
            _check_case(case)
    if not request.compare:
        return groups
    return [[*group, *_baselines(group[0])] for group in groups]


def _groups(request: Request, case: Case) -> list[list[Case]]:
    if request.overhead:
        pairs = links(request.uplink)
        return [[case._replace(uplink=up, downlink=down) for up, down in pairs]]
    if request.sweep is None:
        return [[case]]
    name, values = parse_sweep(request.sweep)
    cases = [case._replace(**{name: value}) for value in values]  # type: ignore[arg-type]
    # Rounds of other lengths have nothing to be compared turn by turn.
    return [[c] for c in cases] if name == "clients" else [cases]


def _baselines(case: Case) -> list[Case]:
    plain = Case(case.workload, case.clients, population=case.population)
    return [plain._replace(contender=c) for c in (LOOP, BOUND)]


def parse_sweep(text: str) -> tuple[str, list[int] | list[str]]:
    """What varies and its values, from ``lanes=1,2,4`` or ``uplink=SPEC;SPEC``.

    Raises:
      InputError: it cannot be read.
    """
    name, equals, rest = text.partition("=")
    name = name.strip()
    if name not in SWEPT:
        hint = nearest(name, list(SWEPT))
        raise InputError(f"sweep cannot vary {name!r}; {hint}")
    mark = ";" if name in _SPECS else ","
    example = _SPECS.get(name, "1,2,4")
    parts = [part.strip() for part in rest.split(mark)]
    if not equals or not all(parts):
        raise InputError(
            f"sweep {text!r} needs values joined by {mark!r}, as in {name}={example}"
        )
    if len(set(parts)) < len(parts):
        raise InputError(f"sweep {text!r} has a value twice")
    if name in _SPECS or name == "convolution":
        return name, parts
    try:
        return name, [int(part) for part in parts]
    except ValueError:
        raise InputError(
            f"sweep {text!r} needs whole numbers, as in {name}={example}"
        ) from None


def _check(request: Request) -> None:
    if request.workload is not None and request.workload not in KINDS:
        check(request.workload, 1, 0)
    if request.rounds < 1:
        raise InputError(f"rounds must be at least 1, not {request.rounds}")
    if request.model and (request.compare or request.workload is None):
        raise InputError(
            "another model needs a workload, and has nothing to compare with; give "
            "--workload, and leave --compare out"
        )
    if request.sweep is not None and request.workload is None:
        raise InputError("a sweep needs a workload; add --workload W1, W2 or W3")
    if not request.overhead:
        return
    if request.sweep is not None:
        raise InputError("overhead and sweep do not go together; leave one out")
    if request.downlink != IDENTITY:
        raise InputError("overhead measures uplinks; leave downlink out")


def _check_case(case: Case) -> None:
    check(case.workload, case.clients, case.population)
    if case.lanes < 0:
        raise InputError(f"lanes must not be negative (0 chooses), got {case.lanes}")
    if not 0 <= case.devices <= _MOST_DEVICES:
        raise InputError(
            f"devices must be between 0 (chosen) and {_MOST_DEVICES}, "
            f"not {case.devices}"
        )
    if case.convolution not in get_args(Form):
        hint = nearest(case.convolution, list(get_args(Form)))
        raise InputError(f"no convolution form {case.convolution!r}; {hint}")
    for name in ("uplink", "downlink"):
        try:
            compress.parse(getattr(case, name))
        except SpecError as error:
            reason = f"{name}: {error.reason}"
            raise SpecError(reason, error.text, error.position) from None
    for name in ("algorithm", "model", "qat"):
        if text := getattr(case, name):
            check_spec(name, text)
    clock.parse(case.clock)
