"""VGG-11 and LeNet-5: published sizes, and against plain numpy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from plain_layers import convolution, images, leaky, pool
from systems import rows

from fedjax_compress import models, registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0))


def test_vgg11_has_the_published_tensors():
    task = Task((32, 32, 3), 10)
    model = registry.build("model", "vgg11", task)
    shapes = shapes_of(model)
    weights = [
        leaf.size for path, leaf in zip(
            tree.paths(shapes), jax.tree.leaves(shapes), strict=True
        ) if path.endswith("kernel")
    ]  # fmt: skip
    wanted = [1_728, 73_728, 294_912, 589_824, 1_179_648]
    wanted += 3 * [2_359_296] + 2 * [262_144] + [5_120]
    assert weights == wanted
    assert tree.count(shapes) == 9_750_922
    assert round(models.forward_macs(model, task) / 1e6) == 153


def test_lenet_by_hand():
    layers = [6 * 26, 16 * 151, 120 * 401, 84 * 121, 10 * 85]
    gray, colour = Task((28, 28), 10), Task((32, 32, 3), 10)
    assert tree.count(shapes_of(registry.build("model", "lenet", gray))) == sum(layers)
    layers[0] = 6 * 76
    found = tree.count(shapes_of(registry.build("model", "lenet", colour)))
    assert found == sum(layers) == 62_006


def layered(x, p, name):
    return convolution(x, p[name]) + p[name]["bias"]


def ended(x, p):
    """What comes behind the convolutions."""
    x = x.reshape(len(x), -1)
    for name in ("dense_1", "dense_2"):
        x = leaky(x @ p[name]["kernel"] + p[name]["bias"], 0)
    return x @ p["output"]["kernel"] + p["output"]["bias"]


def test_vgg11_is_the_one_described(draw):
    x = images(32, 33)
    model = registry.build("model", "vgg11(width=1, conv=direct)", Task(x.shape[1:], 5))
    p, y = draw(model), x / 255
    for i in range(1, 9):
        y = leaky(layered(y, p, f"conv_{i}"), 0)
        y = pool(y) if i in (1, 2, 4, 6, 8) else y
    assert y.shape == (2, 1, 1, 8)
    found = model.apply(p, rows(x), None)
    np.testing.assert_allclose(found, ended(y, p), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [12, 28, 32, 35])
def test_lenet_is_the_one_described(draw, side):
    x = images(side, side + 1)
    model = registry.build("model", "lenet(conv=direct)", Task(x.shape[1:], 5))
    p, y = draw(model), x / 255
    y = layered(y, p, "conv_1")
    y = y if side < 32 else y[:, 2:-2, 2:-2]
    y = layered(pool(leaky(y, 0)), p, "conv_2")[:, 2:-2, 2:-2]
    found = model.apply(p, rows(x), None)
    np.testing.assert_allclose(found, ended(pool(leaky(y, 0)), p), rtol=1e-4, atol=1e-4)


def test_refusals():
    with pytest.raises(InputError, match="at least 32 x 32, not 28 x 28"):
        registry.build("model", "vgg11", Task((28, 28), 10))
    with pytest.raises(InputError, match="at least 12 x 12, not 8 x 8"):
        registry.build("model", "lenet", Task((8, 8), 10))
    with pytest.raises(InputError, match="width must be at least 1"):
        registry.build("model", "lenet(width=0)", Task((28, 28), 10))
