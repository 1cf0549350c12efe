"""A run whose server's model is lost: its end, its files, and the runs beside it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.clients import Dataset
from fedjax_compress.errors import Diverged
from fedjax_compress.experiment import (
    Config,
    Grid,
    GridScheme,
    Scheme,
    cli,
    compare,
    dump_toml,
    loop,
    resume,
    run,
    run_grid,
    trained,
)
from fedjax_compress.experiment.grid import jobs
from fedjax_compress.experiment.records import read

TOO_LONG = {"server": "fedavg(lr=3e38)", "local": "sgd(lr=100.0, steps=2, batch=5)"}
"""Steps of more than 1 leave the range of float32, whose end is 3.4e38, at once."""


@pytest.fixture(scope="module")
def lost_config():
    from tests.experiment.conftest import TINY

    return dataclasses.replace(TINY, uplink="identity", **TOO_LONG)
