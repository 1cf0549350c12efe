"""How a run is laid out: as it says, by fixed rules, or as a measured search finds.

What a search has found is kept in ``layouts.json`` in the user's cache folder, under
all that it depends on, so that the same run starts with the same layout.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import fedjax_compress
from fedjax_compress import tree
from fedjax_compress.clients import ClientData, Sampling
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import Config, Role, named, objects_of
from fedjax_compress.report.files import read_json, write_json
from fedjax_compress.runtime.compile_cache import base_folder
from fedjax_compress.simulate.tuning import Choice, tune
from fedjax_compress.typing import Algorithm, Params

FILE = "layouts.json"
_LONG = {"cpu": 6e11}
_LONG_ELSEWHERE = 6e13


class Layout(NamedTuple):
    """A choice, and where it comes from.

    Attributes:
      choice: zeros and ``auto`` are left to the engine's rules.
      note: a few words for people; empty for what was given or ruled.
    """

    choice: Choice
    note: str = ""


def find(
    config: Config,
    algorithm: Algorithm,
    data: ClientData,
    params: Params,
    sampling: Sampling,
    say: Callable[[str], None],
) -> Layout:
    """The layout of a run.

    A search is made where nothing of the layout is given, and ``tune`` is ``always``,
    or is ``auto`` and the run is long: 6 operations for each parameter and row come to
    more than about half a minute.
    """
    given = Choice(config.lanes, config.devices, config.convolution)  # type: ignore[arg-type]
    is_open = given == Choice(0, 0, "auto")
    long = config.tune == "auto" and _long(config, data, params)
    wanted = is_open and (long or config.tune == "always")
    if jax.process_count() > 1 and config.tune == "always":
        raise InputError("tune cannot be always with several processes; leave it out")
    if not wanted or jax.process_count() > 1:
        return Layout(given)
    # Objects cannot be told from others of their name, so nothing is kept of them.
    key, cache = _key(config, data, params), None if objects_of(config) else _cache()
    try:
        choice = Choice(**_known(cache)[key]["choice"])
        return Layout(choice, f"measured before, see {cache}")
    except (KeyError, TypeError):
        pass  # unknown, or not of this form
    say("trying layouts (lanes, devices, convolutions) ...")
    ids = sampling(config.seed, 0, data.sizes, config.cohort)
    found = tune(algorithm, data, params, ids, config.cohort, given)
    times = "as fast as" if found.gain < 1.01 else f"{found.gain:.2g} times as fast as"
    note = f"measured: {times} the first guess"
    rates = [[*choice, round(rate)] for choice, rate in found.rates]
    if cache is not None:
        entry = {"choice": found.choice._asdict(), "rows_per_second": rates}
        _keep(cache, key, entry)
    return Layout(found.choice, note)


def _long(config: Config, data: ClientData, params: Params) -> bool:
    rows = config.rounds * config.cohort * float(np.mean(data.sizes))
    work = 6.0 * tree.count(params) * rows
    return work > _LONG.get(jax.default_backend(), _LONG_ELSEWHERE)


def _key(config: Config, data: ClientData, params: Params) -> str:
    """A digest of all that the speed depends on."""
    device = jax.devices()[0]
    middle_and_largest = np.percentile(data.sizes, [50, 100])
    about: dict[str, Any] = {"format": 2}
    about |= {name: getattr(config, name) for name in named(Role.PROGRAM | Role.SPEED)}
    about |= {
        "parameters": tree.count(params),
        "columns": [
            [name, str(x.dtype), *x.shape[1:]] for name, x in data.columns.items()
        ],
        "sizes": [int(np.log2(max(1, s))) for s in middle_and_largest],
        "device": [device.platform, device.device_kind, jax.device_count()],
        "cores": os.cpu_count(),
        "versions": [fedjax_compress.__version__, jax.__version__],
    }
    text = json.dumps(about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _cache() -> Path | None:
    folder = base_folder(os.environ)
    return None if folder is None else folder / FILE


def _known(cache: Path | None) -> dict[str, Any]:
    if cache is None or not cache.is_file():
        return {}
    try:
        found = read_json(cache)
        return found if isinstance(found, dict) else {}
    except InputError:
        return {}  # damaged: what was found once can be found again


def _keep(cache: Path, key: str, entry: dict[str, Any]) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, _known(cache) | {key: entry})
    except OSError:
        pass  # the next run searches again
