"""What a run is made of, as checkpoints keep it: settings, data and versions."""

from __future__ import annotations

import hashlib
import platform
import sys
from typing import Any

import jax
import numpy as np

import fedjax_compress
from fedjax_compress import tree
from fedjax_compress.data import Dataset
from fedjax_compress.data.values import expect, pieces
from fedjax_compress.experiment.build import Parts
from fedjax_compress.experiment.config import FIELDS, Config, Role, named
from fedjax_compress.registry import imports
from fedjax_compress.typing import Columns


def digest(parts: Parts) -> str:
    """SHA-256 over all rows, their order and their owners; also those of nobody."""
    found = hashlib.sha256()
    train, test = parts.data.columns, parts.dataset.test
    columns = [*_ordered(train), parts.data.offsets, *_ordered(test)]
    columns += _ordered(parts.algorithm.public)
    if parts.data.rows is not None:
        columns.append(parts.data.rows)
    for column in map(np.asarray, columns):
        expect(column, scattered=False)
        found.update(f"{column.dtype} {column.shape}\n".encode())
        for _, piece in pieces(column):
            found.update(np.ascontiguousarray(piece).data)
    for column in map(np.asarray, train.values()):
        expect(column, scattered=parts.data.rows is not None)
    return found.hexdigest()


def _ordered(columns: Columns) -> list[Any]:
    """Columns in the order of their names."""
    return [columns[name] for name in sorted(columns)]


def fingerprint(config: Config, parts: Parts) -> dict[str, Any]:
    """All that must be the same for a run to go on bit for bit."""
    # Of the settings that are free only ``devices`` changes numbers: the order of sums.
    free = named(Role.FREE)
    settings = {n: getattr(config, n) for n in FIELDS if n not in free}
    for name in named(Role.LATER):
        if settings[name] == FIELDS[name].default:
            del settings[name]
    return (
        settings
        | _new_scale(parts.dataset)
        | {
            "parameters": tree.count(parts.params),
            "jax": jax.__version__,
            "platform": jax.devices()[0].platform,
            "device_kind": jax.devices()[0].device_kind,
            "data_sha256": digest(parts),
        }
    )


def _new_scale(dataset: Dataset) -> dict[str, float]:
    """What divides the features, where earlier versions divided by something else."""
    before = 255.0 if dataset.train["features"].dtype.kind in "iu" else 1.0
    scale = dataset.task.scale
    return {} if scale in (None, before) else {"scale": scale}


def versions() -> dict[str, str]:
    """Versions of what the numbers come from; of imported files the SHA-256."""
    return {
        "fedjax_compress": fedjax_compress.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": sys.platform,
        **imports.digests(),
    }
