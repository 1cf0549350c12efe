"""Losses by which one network learns from the outputs of another."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress.typing import Array

EPSILON = 1e-7
"""What FedGKT's code adds to each chance of the teacher."""


def distillation(
    teacher: Array, student: Array, temperature: float, epsilon: float = EPSILON
) -> Array:
    """Hinton's loss of each row, by logits, float32 [batch].

    T^2 sum_c p_c (log p_c - log q_c), p = softmax(teacher / T) + epsilon, q =
    softmax(student / T). No gradient flows to the teacher.

    Args:
      teacher, student: float32 [batch, classes].
      temperature: T, above 0.
      epsilon: as in FedGKT's code, which does not make p sum to 1 again, so that equal
        logits cost T^2 classes epsilon; 0 for Hinton's.

    Reference: Hinton et al. 2015; He et al. 2020 (FedGKT), code.
    """
    p = jax.nn.softmax(jax.lax.stop_gradient(teacher) / temperature) + epsilon
    log_p = jnp.log(jnp.where(p > 0, p, 1.0))
    log_q = jax.nn.log_softmax(student / temperature)
    return temperature**2 * jnp.sum(p * (log_p - log_q), axis=-1)
