"""The time models give the seconds of a full round that the authors' code gives."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fedjax_compress import prune

CONV2 = np.int32([800, 51_200, 6_422_528, 126_976])
VGG11 = np.int32(
    [
        1728,
        73_728,
        294_912,
        589_824,
        1_179_648,
        *[2_359_296] * 3,
        262_144,
        262_144,
        5120,
    ]
)


def test_a_full_round():
    conv2, vgg11 = prune.conv2_femnist(), prune.vgg11_cifar10()
    assert float(jax.jit(conv2.seconds)(CONV2)) == pytest.approx(51.08, abs=0.02)
    assert float(jax.jit(vgg11.seconds)(VGG11)) == pytest.approx(209.6, abs=0.1)
    assert float(conv2.seconds(0 * CONV2)) == pytest.approx(6.246)


def test_parts_of_a_full_round():
    """6.25 constant, 36.72 communication, 8.12 computation."""
    model = prune.conv2_femnist()
    assert model.communication * CONV2.sum() == pytest.approx(36.72, abs=0.01)
    assert np.dot(model.per_layer, CONV2) == pytest.approx(8.12, abs=0.01)


def test_by_hand():
    model = prune.TimeModel(2.0, 0.5, (0.25, 1.0))
    assert model.times == (0.75, 1.5)
    assert float(model.seconds(np.int32([4, 2]))) == 8
