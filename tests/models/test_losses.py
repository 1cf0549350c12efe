"""Losses by hand, and what each row counts for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.models import losses, metrics
from fedjax_compress.simulate import Evaluator
from fedjax_compress.typing import Model, Task


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


def test_tokens_by_hand():
    # Odds 0 : 1 : 3 everywhere. The first sequence scores symbols 1 and 2, which cost
    # log 4 and log 4/3; the other one scores nothing, and counts for nothing.
    outputs = jnp.broadcast_to(jnp.log(jnp.array([1e-30, 1, 3])), (2, 3, 3))
    columns = {"labels": jnp.array([[1, 2, 0], [0, 0, 0]])}
    tokens = Task((3,), 3, tokens=True)
    loss, weight = losses.losses_for(tokens)(outputs, columns)
    np.testing.assert_allclose(loss, [(np.log(4) + np.log(4 / 3)) / 2, 0], rtol=1e-6)
    assert weight.tolist() == [2, 0]
    columns = {"labels": jnp.full((2, 3), 2)}
    all_scored, weight = losses.losses_for(tokens, pad=-1)(outputs, columns)
    np.testing.assert_allclose(all_scored, np.full(2, np.log(4 / 3)), rtol=1e-6)
    assert weight.tolist() == [3, 3]


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


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.int8])
def test_lengths_say_which_positions_are_scored(kind):
    """Whatever stands there, the pad symbol too; and no others."""
    outputs = np.log(np.random.default_rng(0).dirichlet(np.ones(4), (3, 5)))
    labels = np.random.default_rng(1).integers(0, 4, (3, 5)).astype(kind)
    labels[0, 0] = 0
    columns = {"labels": labels, "lengths": np.array([5, 2, 0], kind)}
    both = losses.losses_for(Task((5,), 4, tokens=True))(jnp.asarray(outputs), columns)
    nll = -np.take_along_axis(outputs, labels[..., None].astype(int), 2)[..., 0]
    np.testing.assert_allclose(
        both[0], [nll[0].mean(), nll[1, :2].mean(), 0], rtol=1e-5
    )
    assert both[1].tolist() == [5, 2, 0]


def test_pixels_have_no_padding_unless_it_is_said():
    outputs, labels = jnp.zeros((1, 2, 3, 4)), np.array([[[0, 1, 2], [3, 255, 0]]])
    pixels = Task((2, 3), 4, target="positions")
    _, weight = losses.losses_for(pixels, pad=255)(outputs, {"labels": labels})
    assert weight.tolist() == [5]
    _, weight = losses.losses_for(pixels)(outputs, {"labels": np.minimum(labels, 3)})
    assert weight.tolist() == [6]
    rows = {"labels": labels.astype(np.uint8), "lengths": np.array([1])}
    _, weight = losses.losses_for(pixels)(outputs, rows)
    assert weight.tolist() == [3]  # lengths count along the first axis


@pytest.mark.parametrize("numbers", [1, 3])
def test_regression_by_hand(numbers):
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(2, 4, numbers)).astype(np.float32)
    wanted = ((outputs.astype(np.float64) - labels) ** 2).mean(1)
    loss = losses.losses_for(Task((2,), numbers, target="number"))
    value, weight = loss(jnp.asarray(outputs), {"labels": labels})
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    assert weight.tolist() == [1] * 4
    if numbers == 1:  # [batch] and [batch, 1] are the same numbers
        for one, other in ((outputs, labels[:, 0]), (outputs[:, 0], labels)):
            value, _ = loss(jnp.asarray(one), {"labels": other})
            np.testing.assert_allclose(value, wanted, rtol=1e-5)
    with pytest.raises(InputError, match="need as many numbers as labels"):
        loss(jnp.zeros((4, numbers + 1)), {"labels": labels})


@pytest.mark.parametrize("kind", [np.int32, np.uint8, bool, np.float32])
def test_several_labels_by_hand(kind):
    """Odds 1, 3 and 1/3 with the first two true: -log of 1/2, 3/4 and 3/4."""
    outputs = jnp.log(jnp.array([[1.0, 3.0, 1 / 3]]))
    columns = {"labels": np.array([[1, 1, 0]]).astype(kind)}
    loss = losses.losses_for(Task((2,), 3, target="several"))
    value, weight = loss(outputs, columns)
    wanted = (np.log(2) + 2 * np.log(4 / 3)) / 3
    np.testing.assert_allclose(value, [wanted], rtol=1e-6)
    assert weight.tolist() == [1]


TASKS = {
    "class": (Task((2,), 3), (), 3),
    "several": (Task((2,), 3, target="several"), (3,), 2),
    "number": (Task((2,), 3, target="number"), (3,), 2),
    "positions": (Task((4,), 3, tokens=True), (4,), 3),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_column_of_weights_multiplies_what_a_row_counts_for(name):
    task, shape, high = TASKS[name]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, high, (5, *shape))
    outputs = jnp.asarray(rng.normal(size=(5, *shape, 3)), jnp.float32)
    outputs = outputs[..., 0] if name in ("several", "number") else outputs
    weights = np.array([2, 0, 1, 3, 1], np.uint8)
    loss = losses.losses_for(task)
    value, count = loss(outputs, {"labels": labels})
    same, weight = loss(outputs, {"labels": labels, "weights": weights})
    np.testing.assert_array_equal(same, value)
    np.testing.assert_array_equal(weight, np.asarray(count) * weights)
    assert {value.dtype, weight.dtype} == {jnp.dtype(jnp.float32)}


def sequences():
    """Test rows of a public case: sequences of 12 or 2 tokens, and of none."""
    rng = np.random.default_rng(0)
    x, y = np.zeros((2, 400, 12), np.int32)
    for i in range(400):
        kind = i % 5
        if kind == 0:
            continue
        length = 12 if kind in (1, 2) else 2
        found = rng.integers(1, 8, length + 1) if kind > 2 else None
        if found is None:
            found = 1 + (rng.integers(0, 7) + np.arange(length + 1)) % 7
        x[i, :length], y[i, :length] = found[:-1], found[1:]
    return x[300:], y[300:]


def test_sequences_of_unequal_length_count_by_their_tokens():
    """A model that says that each symbol is followed by the next: right for long rows,
    by chance for short ones. Over all tokens of the case 0.8804 are right; the mean
    over rows is far from it."""
    x, y = sequences()
    task = Task((12,), 8, tokens=True)
    table = np.zeros((8, 8), np.float32)
    table[np.arange(1, 8), 1 + np.arange(1, 8) % 7] = 3.0
    model = Model(
        lambda key: jnp.asarray(table),
        lambda params, columns, key: params[columns["features"]],
        losses.losses_for(task),
        metrics.metrics_for(task),
    )
    found = Evaluator(model, {"features": x, "labels": y}, 32)(table)
    real = y != 0
    right = (np.argmax(table[x], -1) == y)[real]
    nll = (
        np.log(np.exp(table[x]).sum(-1))
        - np.take_along_axis(table[x], y[..., None], 2)[..., 0]
    )
    assert f"{found['test_accuracy']:.4f}" == "0.8804"
    np.testing.assert_allclose(found["test_accuracy"], right.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["test_loss"], nll[real].mean(), rtol=1e-5)
    by_row = np.where(real, np.argmax(table[x], -1) == y, 0).sum(1)
    by_row = by_row / np.maximum(real.sum(1), 1)
    assert by_row.mean() < 0.55
