"""Fixtures of two rooms, data and clients: small data sets, and the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedjax_compress.data import Dataset
from fedjax_compress.typing import Task

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture
def shared():
    """The folder of real data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data in {SHARED}")
    return SHARED


@pytest.fixture
def make():
    """rows, classes -> a data set whose features are the row numbers."""

    def build(rows=600, classes=10, labels=None, clients=None, test_clients=None):
        if labels is None:
            labels = np.arange(rows) % classes
        labels = np.asarray(labels, np.int32)
        features = np.arange(len(labels), dtype=np.float32)[:, None]
        return Dataset(
            "made",
            Task((1,), classes),
            {"features": features, "labels": labels},
            clients,
            {"features": features[:20], "labels": labels[:20]},
            test_clients,
        )

    return build
