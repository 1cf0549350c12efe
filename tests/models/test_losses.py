"""Losses and accuracies by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.models import losses


def test_uniform_outputs_cost_the_logarithm_of_the_classes():
    outputs = jnp.full((3, 10), 7.0)
    loss = losses.cross_entropy(outputs, jnp.array([0, 4, 9]))
    np.testing.assert_allclose(loss, np.full(3, np.log(10)), rtol=1e-6)
    assert loss.dtype == jnp.float32


def test_cross_entropy_by_hand():
    # Odds 1 : 3 : 4, so probabilities 1/8, 3/8, 1/2.
    outputs = jnp.log(jnp.array([[1.0, 3, 4]] * 3))
    loss = losses.cross_entropy(outputs, jnp.array([0, 1, 2], jnp.uint8))
    np.testing.assert_allclose(loss, np.log([8, 8 / 3, 2]), rtol=1e-6)


def test_gradient_is_probabilities_minus_the_label():
    outputs = jnp.log(jnp.array([[1.0, 3, 4]]))
    grad = jax.grad(lambda o: losses.cross_entropy(o, jnp.array([1])).sum())(outputs)
    np.testing.assert_allclose(grad, [[1 / 8, 3 / 8 - 1, 1 / 2]], atol=1e-6)


def test_large_outputs_stay_finite_and_half_precision_is_widened():
    loss = losses.cross_entropy(jnp.array([[1e4, -1e4]]), jnp.array([1]))
    assert float(loss[0]) == 2e4
    half = losses.cross_entropy(jnp.zeros((1, 3), jnp.bfloat16), jnp.array([1]))
    assert half.dtype == jnp.float32
    assert float(half[0]) == pytest.approx(np.log(3), rel=1e-6)


def test_correct_by_hand():
    outputs = jnp.array([[0.0, 2, 1], [5, 5, 0], [5, 5, 0], [-1, -2, -3]])
    right = losses.correct(outputs, jnp.array([1, 0, 1, 2]))
    assert right.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_tokens_by_hand():
    # Odds 0 : 1 : 3 everywhere. The first sequence scores symbols 1 and 2, which cost
    # log 4 and log 4/3, of which the second is right; the other one scores nothing.
    outputs = jnp.broadcast_to(jnp.log(jnp.array([1e-30, 1, 3])), (2, 3, 3))
    labels = jnp.array([[1, 2, 0], [0, 0, 0]])
    loss = losses.token_cross_entropy(outputs, labels)
    np.testing.assert_allclose(loss, [(np.log(4) + np.log(4 / 3)) / 2, 0], rtol=1e-6)
    assert losses.token_correct(outputs, labels).tolist() == [0.5, 0.0]
    all_scored = losses.token_cross_entropy(outputs, jnp.full((2, 3), 2), pad=-1)
    np.testing.assert_allclose(all_scored, np.full(2, np.log(4 / 3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "labels"), [((2, 5), (2, 1)), ((2, 5), (3,)), ((2, 4, 5), (2,))]
)
def test_shapes_that_do_not_belong_together(outputs, labels):
    with pytest.raises(InputError, match="need integer labels of shape"):
        losses.cross_entropy(jnp.zeros(outputs), jnp.zeros(labels, jnp.int32))


def test_binary_cross_entropy_by_hand():
    """Odds 1, 3, 1/3, the label in the middle: -log of 1/2, 3/4 and 3/4."""
    outputs = jnp.log(jnp.array([[1.0, 3.0, 1 / 3]]))
    loss = losses.binary_cross_entropy(outputs, jnp.array([1]))
    wanted = (np.log(2) + 2 * np.log(4 / 3)) / 3
    np.testing.assert_allclose(loss, [wanted], rtol=1e-6)
    large = losses.binary_cross_entropy(jnp.array([[1e4, -1e4]]), jnp.array([1]))
    assert float(large[0]) == 1e4
