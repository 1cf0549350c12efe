"""Distillation: the worked cases and limits of the reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.models.distilling import distillation

TEACHER = jnp.array([[1.0, 2.0, 3.0, 0.0, -1.0]])
STUDENT = jnp.array([[0.0, 2.0, 1.0, 4.0, 0.0]])


def test_large_temperatures_compare_centred_logits():
    """T^2 KL goes to sum (z - mean z - s + mean s)^2 / (2 C) = 2.12; 2.1280 at 100."""
    centred = [np.asarray(x - x.mean()) for x in (TEACHER, STUDENT)]
    limit = np.sum((centred[0] - centred[1]) ** 2) / (2 * 5)
    assert limit == pytest.approx(2.12)
    at_100 = distillation(TEACHER, STUDENT, 100.0, epsilon=0.0)[0]
    assert float(at_100) == pytest.approx(2.1280, abs=2e-3)


@pytest.mark.parametrize(("temperature", "wanted"), [(3.0, 4.5e-6), (100.0, 5e-3)])
def test_equal_logits_cost_what_the_code_adds(temperature, wanted):
    """T^2 C 1e-7; nothing without it. float32 holds sums of logarithms to 1e-7."""
    found = distillation(TEACHER, TEACHER, temperature)[0]
    tolerance = temperature**2 * 3e-7
    assert float(found) == pytest.approx(wanted, abs=tolerance)
    assert float(distillation(TEACHER, TEACHER, temperature, 0.0)[0]) == pytest.approx(
        0, abs=tolerance
    )


def test_it_is_the_divergence_in_plain_numpy():
    rng = np.random.default_rng(0)
    z, s = rng.normal(size=(2, 7, 4))
    for temperature, epsilon in [(1.0, 0.0), (3.0, 1e-7), (0.5, 1e-3)]:
        p, q = (np.exp(x / temperature) for x in (z, s))
        p, q = p / p.sum(1, keepdims=True) + epsilon, q / q.sum(1, keepdims=True)
        wanted = temperature**2 * np.sum(p * (np.log(p) - np.log(q)), 1)
        found = distillation(
            jnp.asarray(z, jnp.float32), jnp.asarray(s, jnp.float32),
            temperature, epsilon,
        )  # fmt: skip
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


def test_the_teacher_is_not_moved_and_no_gradient_is_lost():
    slope = jax.grad(lambda z: distillation(z, STUDENT, 3.0).sum())(TEACHER)
    assert not np.any(slope)
    hot = jnp.array([[200.0, 0.0, -300.0]])
    slope = jax.grad(lambda s: distillation(hot, s, 1.0, 0.0).sum())(-hot)
    assert np.all(np.isfinite(slope))
    # Of T^2 KL: T (q - p).
    p, q = jax.nn.softmax(TEACHER / 3), jax.nn.softmax(STUDENT / 3)
    slope = jax.grad(lambda s: distillation(TEACHER, s, 3.0, 0.0).sum())(STUDENT)
    np.testing.assert_allclose(slope, 3 * (q - p), atol=1e-6)
