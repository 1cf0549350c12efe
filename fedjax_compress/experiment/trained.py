"""What a run has learned."""

from __future__ import annotations

from pathlib import Path

from fedjax_compress.clients import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import files, loop
from fedjax_compress.experiment.build import build, request_devices
from fedjax_compress.experiment.toml import load_toml
from fedjax_compress.typing import Model, Params


def trained(folder: str | Path, dataset: Dataset | None = None) -> tuple[Model, Params]:
    """The network of a run, and its parameters in the newest checkpoint.

    Those that are evaluated: with masks applied, where the algorithm has some.

    Args:
      folder: where the run lies; nothing in it is changed.
      dataset: the data, if they have been loaded already.

    Raises:
      InputError: no run in the folder.
      CheckpointError: no usable checkpoint.
    """
    folder = Path(folder)
    if not files.holds_run(folder):
        raise InputError(f"{folder} holds no run")
    config = load_toml(folder / files.CONFIG)
    request_devices(config.devices)
    parts = build(config, dataset)
    start = parts.simulator.start(parts.params)
    state, _ = loop.restore(config, parts, start, folder)
    return parts.model, parts.algorithm.network(state.server)[1]
