"""Small checkpoints for the tests of this room."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.runtime.checkpoint import Checkpoints

FINGERPRINT = {"seed": 1, "config": {"model": "mlp", "lanes": 8}, "jax": "0.10"}


def small_tree(value: float) -> Any:
    return {"a": np.full((3, 4), value, np.float32), "b": jnp.array(int(value))}


def assert_identical(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert isinstance(x, jax.Array) == isinstance(y, jax.Array)
        assert isinstance(x, np.ndarray) == isinstance(y, np.ndarray)
        if not isinstance(x, (jax.Array, np.ndarray)):
            assert type(x) is type(y)
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def write(folder: Path, rounds: list[int], keep: int = 2) -> Checkpoints:
    with Checkpoints(folder, FINGERPRINT, keep) as checkpoints:
        for r in rounds:
            checkpoints.save(r, small_tree(r), {"line": r})
    return checkpoints


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def newest(folder: Path) -> int:
    """The round that a new process would go on from; its arrays are checked."""
    r, tree, extra = Checkpoints(folder, FINGERPRINT).restore(small_tree(0))
    assert_identical(tree, small_tree(r))
    assert extra == {"line": r}
    return r


@pytest.fixture
def saves():
    """Functions that write and read small checkpoints."""
    return SimpleNamespace(
        fingerprint=FINGERPRINT,
        small_tree=small_tree,
        assert_identical=assert_identical,
        write=write,
        files=files,
        newest=newest,
    )
