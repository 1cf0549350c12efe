"""What residual networks are made of: convolutions, norms, blocks, the end."""

from __future__ import annotations

import functools

import jax
from flax import linen

from fedjax_compress.models.convolution.forms import Form
from fedjax_compress.models.convolution.layer import Convolution
from fedjax_compress.typing import Array, Key

EPSILON = 1e-5
"""Added to the variance in a normalisation."""


class BasicBlock(linen.Module):
    """relu(norm(conv3x3(relu(norm(conv3x3(x))))) + shortcut(x))."""

    features: int
    stride: int
    groups: int
    form: Form

    @linen.compact
    def __call__(self, x: Array) -> Array:
        make = functools.partial(
            convolution, self.features, form=self.form, kernels=kaiming(0.0)
        )
        y = make(3, name="conv_1", stride=self.stride)(x)
        y = linen.relu(norm(self.groups, "norm_1")(y))
        y = norm(self.groups, "norm_2")(make(3, name="conv_2")(y))
        if self.stride > 1 or x.shape[-1] != self.features:
            x = make(1, name="shortcut", stride=self.stride)(x)
            x = norm(self.groups, "shortcut_norm")(x)
        return linen.relu(y + x)


def convolution(
    features: int,
    size: int,
    form: Form,
    kernels: linen.initializers.Initializer,
    name: str,
    stride: int = 1,
) -> Convolution:
    """A convolution without bias."""
    return Convolution(
        features,
        size,
        form=form,
        stride=stride,
        bias=False,
        kernel_init=kernels,
        name=name,
    )


def norm(groups: int, name: str) -> linen.GroupNorm:
    """A normalisation over one image and one group of channels."""
    return linen.GroupNorm(groups, epsilon=EPSILON, name=name)


def kaiming(slope: float) -> linen.initializers.Initializer:
    """Normal of mean 0 and variance 2 / (1 + slope**2) / (rows * columns * outputs)."""
    scale = 2 / (1 + slope**2)
    return linen.initializers.variance_scaling(scale, "fan_out", "normal")


def head(classes: int, x: Array) -> Array:
    """The mean over places and a dense layer; called inside a module."""
    x = x.mean((1, 2))
    bound = x.shape[-1] ** -0.5

    def uniform(key: Key, shape: tuple[int, ...], *options: object) -> Array:
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    dense = linen.Dense(classes, name="output", kernel_init=uniform, bias_init=uniform)
    return dense(x)
