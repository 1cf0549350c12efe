"""The time of a round, a linear function of how many parameters of each layer stay."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fedjax_compress.typing import Array

LOCAL_STEPS = 5
"""Local steps in a round, for which the constants below hold."""
_COMMUNICATION = 5.561621025626998e-6
"""Seconds per kept parameter, both directions together; 8 bytes at 1.372 MiB/s."""


class TimeModel(NamedTuple):
    """T = c + sum_l k_l (p_l + m), with k_l kept parameters in layer l.

    Attributes:
      constant: c, seconds of a round in which nothing is kept.
      communication: m, seconds to send a kept parameter down and up.
      per_layer: p, for each prunable layer in the order of the leaves, seconds of
        computing for a kept parameter in all local steps of a round.
    """

    constant: float
    communication: float
    per_layer: tuple[float, ...]

    @property
    def times(self) -> tuple[float, ...]:
        """t_l = p_l + m, seconds for a kept parameter of each layer."""
        return tuple(p + self.communication for p in self.per_layer)

    def seconds(self, kept: Array) -> Array:
        """T of a round, float32 scalar.

        Args:
          kept: parameters kept in each layer, int32 [layers].
        """
        times = jnp.asarray(self.times, jnp.float32)
        return self.constant + jnp.sum(jnp.asarray(kept, jnp.float32) * times)


def conv2_femnist() -> TimeModel:
    """Conv-2 on FEMNIST: two convolutions, two dense layers, 5 local steps.

    Reference: Jiang et al. 2022 (PruneFL), constants of the authors' code.
    """
    return _five_steps(6.246, 0.0, 7.10e-6, 1.93e-7, 1.78e-7)


def vgg11_cifar10() -> TimeModel:
    """VGG-11 on CIFAR-10: eight convolutions, three dense layers, 5 local steps.

    Reference: Jiang et al. 2022 (PruneFL), constants of the authors' code.
    """
    convolutions = (
        0.0,
        8.96e-6,
        2.50e-6,
        2.78e-6,
        1.02e-6,
        1.28e-6,
        1.84e-6,
        8.07e-7,
    )
    return _five_steps(86.85, *convolutions, 5.15e-7, 2.43e-7, 0.0)


def _five_steps(constant: float, *each_step: float) -> TimeModel:
    per_layer = tuple(LOCAL_STEPS * seconds for seconds in each_step)
    return TimeModel(constant, _COMMUNICATION, per_layer)
