"""Layers of networks in plain numpy, float64."""

from __future__ import annotations

import numpy as np


def convolution(x, layer, stride=1):
    """SAME, with as many zeros on each side, whatever the stride."""
    kernel = layer["kernel"].astype(np.float64)
    size = kernel.shape[0]
    pad = size // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = (range(0, x.shape[axis] - size + 1, stride) for axis in (1, 2))
    y = np.zeros((len(x), len(height), len(width), kernel.shape[3]))
    for i, top in enumerate(height):
        for j, left in enumerate(width):
            window = x[:, top : top + size, left : left + size]
            y[:, i, j] = np.einsum("brsc,rsco->bo", window, kernel)
    return y


def norm(x, layer, groups=2):
    """Over one image and one group of channels."""
    y = np.empty_like(x)
    for part in np.split(np.arange(x.shape[-1]), groups):
        for b in range(len(x)):
            one = x[b][..., part]
            y[b][..., part] = (one - one.mean()) / np.sqrt(one.var() + 1e-5)
    return y * layer["scale"] + layer["bias"]


def leaky(x, slope=0.1):
    """x, or slope x below zero."""
    return np.where(x > 0, x, slope * x)


def pool(x):
    """2x2, of whole windows."""
    high, wide = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    parts = [x[:, i:high:2, j:wide:2] for i in range(2) for j in range(2)]
    return np.max(parts, axis=0)


def dense(x, layer):
    """The mean over places and a dense layer."""
    return x.mean((1, 2)) @ layer["kernel"] + layer["bias"]


def images(height, width):
    """Two pictures of three channels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
