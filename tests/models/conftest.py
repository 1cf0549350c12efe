"""Random parameters without compiling a model's initialiser."""

from __future__ import annotations

import jax
import numpy as np
import pytest


@pytest.fixture
def draw():
    """(model, seed) -> parameters of the model's shapes, normal, of scale 0.3."""

    def make(model, seed=0):
        rng = np.random.default_rng(seed)
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0)))
        return jax.tree.map(
            lambda s: (0.3 * rng.normal(size=s.shape)).astype(np.float32), shapes
        )

    return make
