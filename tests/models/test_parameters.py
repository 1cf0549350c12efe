"""Shapes, counts and initial values of the parameters."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fedjax_compress import registry, tree
from fedjax_compress.typing import Task

MNIST = Task((28, 28), 10)
COUNTS = [
    ("logistic", MNIST, 784 * 10 + 10),
    ("mlp(hidden=(200, 200))", MNIST, 199_210),
    ("mlp", Task((8, 8), 10), 64 * 64 + 64 + 64 * 10 + 10),
    ("cnn", MNIST, 1_663_370),
    ("cnn(conv=direct)", Task((28, 28, 1), 10), 1_663_370),
    ("cnn", Task((8, 8), 10), 832 + 51_264 + (2 * 2 * 64 + 1) * 512 + 5_130),
    ("cnn", Task((32, 32, 3), 10), 2_432 + 51_264 + (8 * 8 * 64 + 1) * 512 + 5_130),
    ("emnist_cnn", Task((28, 28), 62), 1_206_590),
    ("emnist_cnn(dropout=false)", Task((28, 28, 1), 62), 1_206_590),
    ("char_lstm", Task((80,), 90, tokens=True), 820_522),
]


@pytest.mark.parametrize(("text", "task", "count"), COUNTS)
def test_number_of_parameters(text, task, count):
    model = registry.build("model", text, task)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    assert tree.count(params) == count
    assert type(params) is dict
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))


def test_init_is_a_function_of_the_key():
    model = registry.build("model", "mlp(hidden=(50,))", Task((40, 40), 10))
    a, b, c = (model.init(jax.random.key(seed)) for seed in (1, 1, 2))
    assert tree.sha256(a) == tree.sha256(b) != tree.sha256(c)


def test_initial_values_are_as_documented():
    # 80,000 draws of a normal of variance 1/1600: the sample's standard deviation
    # errs by 1/sqrt(160,000) = 0.25 %; 3 % is 12 of those.
    model = registry.build("model", "mlp(hidden=(50,))", Task((40, 40), 10))
    params = model.init(jax.random.key(3))
    assert np.std(params["dense_1"]["kernel"]) == pytest.approx(1 / 40, rel=0.03)
    assert not np.any(params["dense_1"]["bias"])


def test_initial_values_of_the_lstm():
    task = Task((3,), 30, tokens=True)
    model = registry.build("model", "char_lstm(hidden=6, layers=1)", task)
    layer = model.init(jax.random.key(0))["lstm_1"]
    assert layer["bias"].tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12
    for gate in np.split(np.asarray(layer["recurrent"]), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-5)
