"""A small model and a few rows to train it on."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.typing import Model, Task

ROWS, WIDTH, CLASSES = 23, 5, 3


@pytest.fixture(scope="session")
def model() -> Model:
    return registry.build("model", "logistic", Task((WIDTH,), CLASSES))


@pytest.fixture(scope="session")
def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, ROWS).astype(np.int32)
    return {"features": features, "labels": labels}
