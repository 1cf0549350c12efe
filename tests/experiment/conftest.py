"""A run that is small enough to be repeated, and one that all tests may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedjax_compress.experiment import Config, run

TINY = Config(
    clients=8,
    cohort=4,
    rounds=6,
    model="logistic",
    local="sgd(lr=0.1, steps=2, batch=5)",
    uplink="error_feedback(top_k(0.1))",
    downlink="identity",
    lanes=4,
    evaluate_every=2,
    checkpoint_every=2,
)


@pytest.fixture
def tiny() -> Config:
    """Six rounds of four clients with memory, evaluated and saved every second."""
    return TINY


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run(TINY, folder, quiet=True)
    return folder
