"""Models that can be cut, small, with random parameters and examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from sounds import heard

from fedjax_compress import registry
from fedjax_compress.typing import Cuts, Model, Task


class Case(NamedTuple):
    model: Model
    cuts: Cuts
    params: Any
    columns: dict[str, np.ndarray]


@pytest.fixture
def case():
    """(text, task) -> a model with parameters drawn from a normal of scale 0.3."""

    def make(text: str, task: Task) -> Case:
        model = registry.build("model", text, task)
        assert model.cuts is not None
        rng = np.random.default_rng(0)
        params = jax.tree.map(
            lambda s: (0.3 * rng.normal(size=s.shape)).astype(np.float32),
            jax.eval_shape(model.init, jax.random.key(0)),
        )
        if task.predicts == "sequence":
            return Case(model, model.cuts, params, heard(task))
        high = task.classes if task.tokens else 256
        features = rng.integers(0, high, (3, *task.shape), dtype=np.uint8)
        along = task.shape if task.predicts == "positions" else ()
        labels = rng.integers(1, task.classes, (3, *along))
        columns = {"features": features, "labels": labels.astype(np.int32)}
        return Case(model, model.cuts, params, columns)

    return make
