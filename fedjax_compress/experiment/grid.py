"""Grids: schemes times seeds, read and checked; a comparison is one of one seed.

They come as options, or in a TOML file that holds settings as those of a run,
``seeds``, and ``[[schemes]]``::

    rounds = 50
    downlink = "hadamard | uniform(bits=6)"
    seeds = [0, 1, 2]

    [[schemes]]
    name = "FP32"
    uplink = "identity"
    downlink = "identity"

    [[schemes]]
    name = "top-k 1 %"
    uplink = "error_feedback(top_k(0.01))"
    local = "sgd(lr=0.05, epochs=2, batch=10)"
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_compress import spec
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import (
    FIELDS,
    Config,
    Role,
    check_type,
    difference,
    from_dict,
    named,
    recorded,
)
from fedjax_compress.experiment.toml import dump_toml, format_toml, read_toml
from fedjax_compress.registry import nearest
from fedjax_compress.report.files import plain_name

_SCHEMES, _SEEDS = "schemes", "seeds"
GRID_WORDS = {_SCHEMES, _SEEDS}
"""What only the file of a grid holds."""


class Scheme(NamedTuple):
    """One way to train and compress.

    Attributes:
      name: what table and plot call it.
      settings: what is its own; the uplink at least.
    """

    name: str
    settings: dict[str, Any]


def _links(uplink: str, downlink: str = "") -> dict[str, Any]:
    """Settings of a scheme; without a downlink it has that of the grid."""
    return {"uplink": uplink} | ({"downlink": downlink} if downlink else {})


SCHEMES = (
    Scheme("FP32", _links("identity", "identity")),
    Scheme("8 bit", _links("uniform(bits=8)")),
    Scheme("rotated 4 bit", _links("hadamard | uniform(bits=4)")),
    Scheme("rotated 2 bit", _links("hadamard | uniform(bits=2)")),
    Scheme("top-k 1 %, error feedback", _links("error_feedback(top_k(0.01))")),
    Scheme("QSGD 4 bit", _links("qsgd(bits=4)")),
)
"""What ``compare`` runs when nothing is asked for."""


def parse_scheme(text: str) -> Scheme:
    """A scheme from ``NAME=UPLINK`` or ``NAME=UPLINK;DOWNLINK``; the name may lack.

    Raises:
      InputError: the uplink is empty.
    """
    name, equals, rest = text.partition("=")
    if not equals or any(mark in name for mark in "(|;"):
        name, rest = "", text
    uplink, *others = (part.strip() for part in spec.split(rest, ";"))
    if not uplink:
        raise InputError(
            f"scheme {text!r} has no uplink; write it as in "
            "'rotated 4 bit=hadamard | uniform(bits=4)'"
        )
    return Scheme(name.strip() or uplink, _links(uplink, ";".join(others)))


class Grid(NamedTuple):
    """Every scheme with every seed.

    Attributes:
      base: what all runs have in common; its seed is the first one.
      schemes: what is compared.
      seeds: of the runs of each scheme.
    """

    base: Config
    schemes: tuple[Scheme, ...]
    seeds: tuple[int, ...]


class Job(NamedTuple):
    """One run of a grid.

    Attributes:
      scheme: name of its scheme.
      folder: where it lies in the folder of the grid.
      config: its settings.
    """

    scheme: str
    folder: str
    config: Config

    @property
    def title(self) -> str:
        """What it is called while it runs."""
        return f"{self.scheme}, seed {self.config.seed}"


def load_grid(path: str | Path) -> Grid | None:
    """The grid in a TOML file; None if the file holds settings only.

    Raises:
      InputError: the file cannot be read, a setting is unknown (with the nearest
        known one) or has the wrong type, or what makes the grid cannot be used.
    """
    values = read_toml(path)
    if GRID_WORDS.isdisjoint(values):
        return None
    source = str(path)
    schemes, seeds = values.pop(_SCHEMES, None), values.pop(_SEEDS, None)
    base = from_dict(values, source)
    if seeds is None:
        seeds = [base.seed]
    elif "seed" in values:
        raise InputError(f"{source}: there are seeds, so leave seed out")
    found = _seeds(seeds, source)
    base = dataclasses.replace(base, seed=found[0])
    return Grid(base, _schemes(schemes, values, source), found)


def load_base(path: str | Path) -> Config:
    """The settings in the file of a grid, or in one of settings only."""
    values = read_toml(path)
    own = {n: v for n, v in values.items() if n not in GRID_WORDS}
    base = from_dict(own, str(path))
    grid = load_grid(path)
    return base if grid is None else grid.base


def _seeds(seeds: Any, source: str) -> tuple[int, ...]:
    whole = isinstance(seeds, list) and all(type(s) is int and s >= 0 for s in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise InputError(
            f"{source}: seeds must be different whole numbers, as in [0, 1, 2], "
            f"not {seeds!r}"
        )
    return tuple(seeds)


def _schemes(schemes: Any, base: dict[str, Any], source: str) -> tuple[Scheme, ...]:
    if not isinstance(schemes, list) or not schemes:
        raise InputError(
            f"{source} has no schemes; write each as [[schemes]] with name and uplink"
        )
    return tuple(_scheme(s, base, i + 1, source) for i, s in enumerate(schemes))


def _scheme(scheme: Any, base: dict[str, Any], number: int, source: str) -> Scheme:
    if not isinstance(scheme, dict):
        raise InputError(f"{source}: scheme {number} must be a table, not {scheme!r}")
    settings = dict(scheme)
    name = settings.pop("name", scheme.get("uplink", f"scheme {number}"))
    if type(name) is not str or not name.strip():
        raise InputError(f"{source}: scheme {number}: name must be text, not {name!r}")
    where = f"{source}: scheme {name!r}"
    _check_settings(settings, where)
    if "uplink" not in settings and "uplink" not in base:
        raise InputError(
            f"{where} has no uplink; write it there, or before the schemes"
        )
    settings.setdefault("uplink", base.get("uplink"))
    return Scheme(name.strip(), settings)


def _check_settings(settings: dict[str, Any], where: str) -> None:
    """Raises InputError unless a scheme can have these for itself."""
    for key, value in settings.items():
        if key in named(Role.SHARED):
            hint = "write seeds" if key == "seed" else f"write {key}"
            raise InputError(
                f"{where}: all schemes have the same {key}; {hint} before the schemes"
            )
        if key not in FIELDS:
            hint = nearest(key, ["name", *FIELDS])
            raise InputError(f"{where}: unknown setting {key!r}; {hint}")
        check_type(key, value, where)


def recorded_grid(grid: Grid) -> Grid:
    """The grid as files keep it: texts in the place of objects."""
    base = recorded(grid.base)
    schemes = []
    for scheme in grid.schemes:
        texts = recorded(dataclasses.replace(base, **scheme.settings))
        settings = {name: getattr(texts, name) for name in scheme.settings}
        schemes.append(scheme._replace(settings=settings))
    return grid._replace(base=base, schemes=tuple(schemes))


def dump_grid(grid: Grid) -> str:
    """The complete grid as TOML, which reads back as it is."""
    parts = [dump_toml(grid.base, leave_out=("seed",))]
    parts.append(f"# one run of each scheme with each\nseeds = {list(grid.seeds)}\n")
    for scheme in grid.schemes:
        lines = {"name": scheme.name, **scheme.settings}.items()
        parts.append(
            "[[schemes]]\n" + "".join(f"{n} = {format_toml(v)}\n" for n, v in lines)
        )
    return "\n".join(parts)


def jobs(grid: Grid) -> list[Job]:
    """All runs, scheme by scheme.

    Raises:
      InputError: two schemes of one name, or a setting that a scheme cannot have.
    """
    found: list[Job] = []
    names: dict[str, str] = {}
    for scheme in grid.schemes:
        folder = plain_name(scheme.name)
        if folder in names:
            raise InputError(
                f"two schemes would share the folder {folder!r}: {names[folder]!r} "
                f"and {scheme.name!r}; give each a name of its own"
            )
        names[folder] = scheme.name
        _check_settings(scheme.settings, f"scheme {scheme.name!r}")
        for seed in grid.seeds:
            config = dataclasses.replace(grid.base, **scheme.settings, seed=seed)
            found.append(Job(scheme.name, f"{folder}/seed-{seed}", config))
    return found


def lengthened(found: Grid, wanted: Grid) -> Grid:
    """The grid that was found, with the rounds of the wanted one where it has more.

    Its imports are the wanted ones: where the files are, they may be moved.
    """

    def longer(mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
        rounds = "rounds"
        if rounds not in mine or rounds not in theirs or mine[rounds] > theirs[rounds]:
            return mine
        return {**mine, rounds: theirs[rounds]}

    own = dict(wanted.schemes)
    schemes = tuple(
        scheme._replace(settings=longer(scheme.settings, own.get(scheme.name, {})))
        for scheme in found.schemes
    )
    rounds = max(found.base.rounds, wanted.base.rounds)
    base = dataclasses.replace(found.base, rounds=rounds, imports=wanted.base.imports)
    return found._replace(base=base, schemes=schemes)


def grid_difference(wanted: Grid, found: Grid) -> str:
    """What differs between two grids, in one line; empty if nothing does."""
    parts = []
    if base := difference(wanted.base, found.base, ignore=("seed",)):
        parts.append(base)
    if wanted.seeds != found.seeds:
        parts.append(f"seeds (wanted {list(wanted.seeds)}, found {list(found.seeds)})")
    ours, theirs = dict(wanted.schemes), dict(found.schemes)
    parts += [f"scheme {n!r} is new" for n in ours if n not in theirs]
    parts += [f"scheme {n!r} is missing" for n in theirs if n not in ours]
    for name in (n for n in ours if n in theirs):
        for key in {**ours[name], **theirs[name]}:
            pair = ours[name].get(key), theirs[name].get(key)
            if pair[0] != pair[1]:
                now, before = ("none" if v is None else repr(v) for v in pair)
                change = f"(wanted {now}, found {before})"
                parts.append(f"{key} of scheme {name!r} {change}")
    if not parts and list(ours) != list(theirs):
        parts.append("the order of the schemes")
    return ", ".join(parts)
