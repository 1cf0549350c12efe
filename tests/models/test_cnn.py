"""The convolutional networks against plain numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import rows

from fedjax_compress import registry
from fedjax_compress.typing import Task

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 10, 9), dtype=np.uint8)


def convolution(x, layer, padding):
    kernel, bias = layer["kernel"].astype(np.float64), layer["bias"]
    size = kernel.shape[0]
    if padding:
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    y = np.zeros((x.shape[0], height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            window = x[:, i : i + size, j : j + size, :]
            y[:, i, j] = np.einsum("brsc,rsco->bo", window, kernel)
    return y + bias


def relu(x):
    return np.maximum(x, 0)


def pool(x):
    high, wide = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    parts = [x[:, i:high:2, j:wide:2] for i in range(2) for j in range(2)]
    return np.max(parts, axis=0)


def dense(x, layer):
    return x.reshape(len(x), -1) @ layer["kernel"] + layer["bias"]


@pytest.mark.parametrize("conv", ["patches", "winograd", "direct"])
def test_cnn_is_the_one_described(draw, conv):
    text = f"cnn(widths=(3, 4), dense=6, conv={conv})"
    model = registry.build("model", text, Task((10, 9), 5))
    p = draw(model)
    x = IMAGES[..., None] / 255
    x = pool(relu(convolution(x, p["conv_1"], 2)))
    x = pool(relu(convolution(x, p["conv_2"], 2)))
    wanted = dense(relu(dense(x, p["dense"])), p["output"])
    np.testing.assert_allclose(model.apply(p, rows(IMAGES), None), wanted, rtol=1e-4)


@pytest.mark.parametrize("conv", ["patches", "winograd", "direct"])
def test_emnist_cnn_is_the_one_described(draw, conv):
    model = registry.build("model", f"emnist_cnn(conv={conv})", Task((10, 9), 5))
    p = draw(model)
    x = IMAGES[..., None] / 255
    x = relu(convolution(x, p["conv_1"], 0))
    x = pool(relu(convolution(x, p["conv_2"], 0)))
    wanted = dense(relu(dense(x, p["dense"])), p["output"])
    got = model.apply(p, rows(IMAGES), None)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


def test_dropout_drops_a_quarter_and_a_half():
    # Constant features 1 behind the convolutions, dense = their mean m, class j reads
    # unit j. A feature is 0 or 4/3, a unit 0 or 2m, each independently. n = 64 * 256
    # features and 64 * 62 units; standard errors 0.0034 and 0.0080, thresholds 6 of
    # them: false alarm below 1e-8.
    model = registry.build("model", "emnist_cnn", Task((8, 8), 62))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    p = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes)
    p["conv_2"]["bias"] += 1
    p["dense"]["kernel"] += 1 / 256
    p["output"]["kernel"] += jnp.eye(128, 62)
    features = rows(np.zeros((64, 8, 8), np.uint8))
    still = model.apply(p, features, None)
    np.testing.assert_allclose(still, np.ones((64, 62)), rtol=1e-6)
    y = np.asarray(model.apply(p, features, jax.random.key(5)))
    kept_features = np.mean(y.max(axis=1)) / 2 * 3 / 4
    assert kept_features == pytest.approx(0.75, abs=6 * 0.0034)
    assert np.mean(y > 0) == pytest.approx(0.5, abs=6 * 0.0080)


def test_dropout_depends_on_the_key_alone_and_can_be_left_out(draw):
    task = Task((8, 8), 5)
    model = registry.build("model", "emnist_cnn", task)
    plain = registry.build("model", "emnist_cnn(dropout=false)", task)
    p, x = draw(model), rows(IMAGES[:, :8, :8])
    a, b, c = (np.asarray(model.apply(p, x, jax.random.key(k))) for k in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.allclose(a, c)
    still = np.asarray(model.apply(p, x, None))
    assert np.array_equal(still, plain.apply(p, x, jax.random.key(1)))
    assert not np.allclose(a, still)
