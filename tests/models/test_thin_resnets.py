"""Networks of FedGKT and FedDF: published sizes, plain numpy, and halves."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from plain_layers import convolution, dense, images, leaky, norm
from systems import rows

from fedjax_compress import models, registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

CIFAR = Task((32, 32, 3), 10)
MAPS = Task((32, 32, 16), 10)


def made(text, task):
    return registry.build("model", text, task)


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0))


@pytest.mark.parametrize(
    ("text", "task", "parameters", "macs"),
    [
        ("resnet8", CIFAR, 10_586, 9.62),
        ("resnet8", CIFAR._replace(classes=100), 16_436, None),
        ("resnet55", MAPS, 590_858, None),
        ("resnet55", MAPS._replace(classes=100), 613_988, None),
        ("resnet109", MAPS, 1_147_274, None),
        ("resnet56", CIFAR, 591_322, 87.2),
        ("resnet110", CIFAR, 1_147_738, 167.4),
    ],
)
def test_sizes_of_fedgkt_are_the_published_ones(text, task, parameters, macs):
    """11 K, 591 K and 1,150 K; the ratios 54, 105 and 9.1, 17.4 follow."""
    model = made(text, task)
    assert tree.count(shapes_of(model)) == parameters
    if macs is not None:
        found = models.forward_macs(model, task) / 1e6
        assert found == pytest.approx(macs, abs=0.5 * 10 ** -(2 if macs < 10 else 1))


def test_the_pieces_of_resnet8_by_hand():
    counts = {k: tree.count(v) for k, v in shapes_of(made("resnet8", CIFAR)).items()}
    assert counts == {
        "stem": 432,
        "stem_norm": 32,
        "block_1": 256 + 32 + 2304 + 32 + 1024 + 128 + 1024 + 128,
        "block_2": 1024 + 32 + 2304 + 32 + 1024 + 128,
        "output": 650,
    }
    assert counts["block_1"], counts["block_2"] == (4928, 4544)
    small = tree.count(shapes_of(made("resnet8(blocks=1)", CIFAR)))
    assert small == 4928 + 464 + 650


def test_resnet20_by_hand():
    """Stem, three stages of three blocks, 3 * 3 kernels and two numbers a channel."""
    stages, before = 0, 16
    for wide in (16, 32, 64):
        stages += 9 * wide * (before + 5 * wide) + 12 * wide
        stages += (before * wide + 2 * wide) * (before != wide)
        before = wide
    total = 27 * 16 + 32 + stages + 65 * 10
    assert tree.count(shapes_of(made("resnet20", CIFAR))) == total == 272_474
    # Option A of the paper, 0.27 M, has no projections.
    assert total - (16 * 32 + 64) - (32 * 64 + 128) == 269_722


def bottleneck(x, p, stride):
    y = leaky(norm(convolution(x, p["conv_1"]), p["norm_1"]), 0)
    y = leaky(norm(convolution(y, p["conv_2"], stride), p["norm_2"]), 0)
    y = norm(convolution(y, p["conv_3"]), p["norm_3"])
    assert ("shortcut" in p) == (stride == 2 or x.shape[-1] != y.shape[-1])
    if "shortcut" in p:
        x = norm(convolution(x, p["shortcut"], stride), p["shortcut_norm"])
    return leaky(y + x, 0)


def basic(x, p, stride):
    y = leaky(norm(convolution(x, p["conv_1"], stride), p["norm_1"]), 0)
    y = norm(convolution(y, p["conv_2"]), p["norm_2"])
    if "shortcut" in p:
        x = norm(convolution(x, p["shortcut"], stride), p["shortcut_norm"])
    return leaky(y + x, 0)


@pytest.mark.parametrize(
    ("text", "block", "blocks"),
    [
        ("resnet8(width=2)", bottleneck, 2),
        ("resnet56(width=2, blocks=2)", bottleneck, 6),
        ("resnet55(width=4, blocks=1)", bottleneck, 3),
        ("resnet20(width=2, blocks=2)", basic, 6),
    ],
)
def test_they_are_those_described(draw, text, block, blocks):
    """Sides of 9 and 8, so that a stride meets odd and even lengths."""
    x = images(9, 8)
    model = made(text[:-1] + ", conv=direct)", Task(x.shape[1:], 5))
    p = draw(model)
    y = x / 255
    if "stem" in p:
        y = leaky(norm(convolution(y, p["stem"]), p["stem_norm"]), 0)
    for i in range(blocks):
        stride = 2 if blocks > 2 and i and i % (blocks // 3) == 0 else 1
        y = block(y, p[f"block_{i + 1}"], stride)
    found = model.apply(p, rows(x), None)
    np.testing.assert_allclose(found, dense(y, p["output"]), rtol=1e-4, atol=1e-4)


def test_halves_one_after_the_other_are_the_whole(draw):
    x = images(9, 8)
    model = made("resnet8(width=4, conv=direct)", Task(x.shape[1:], 5))
    p = draw(model)
    maps = model.halves.first(p, rows(x), None)
    assert maps.shape == (2, *model.halves.shape) == (2, 9, 8, 4)
    stem = leaky(norm(convolution(x / 255, p["stem"]), p["stem_norm"]), 0)
    np.testing.assert_allclose(maps, stem, rtol=1e-4, atol=1e-4)
    found = model.halves.second(p, maps, None)
    np.testing.assert_array_equal(found, model.apply(p, rows(x), None))
    # The server's half reads what the clients' makes.
    server = made("resnet55(width=4, blocks=1)", Task(model.halves.shape, 5))
    assert server.apply(draw(server), {"features": maps}, None).shape == (2, 5)


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet56", "resnet55"])
def test_refusals_are_one_line(name):
    for text, task, words in [
        (name, Task((8, 7), 10), "at least 8 x 8, not 8 x 7"),
        (f"{name}(width=0)", CIFAR, "width must be at least 1, not 0"),
        (f"{name}(blocks=0)", CIFAR, "blocks must be at least 1, not 0"),
        (f"{name}(groups=3)", CIFAR, "width must be a multiple of groups 3, not 16"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            made(text, task)
        assert "\n" not in caught.value.reason
