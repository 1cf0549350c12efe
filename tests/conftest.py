"""What all tests share: four CPU devices, strictness, and where the data lie."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# Read by jax when it starts a backend, which no import does.
_DEVICES = "--xla_force_host_platform_device_count"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}=4".strip()

# Nothing of ours promotes a rank or a dtype silently. Read when jax is imported, by the
# processes that tests start as well.
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# The command line would keep programs in the user's own folder.
os.environ["FEDJAX_COMPRESS_CACHE"] = "off"

hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, max_examples=30, database=None
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """The folder of data sets beside the repository; skips where there is none."""
    folder = repository.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no data sets beside the repository (../shared/data)")
    return folder
