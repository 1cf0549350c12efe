"""Subsampling of sketched updates."""

from __future__ import annotations

from fedjax_compress.compress._random_k import random_k
from fedjax_compress.registry import register
from fedjax_compress.typing import Stage


@register("stage")
def subsample(fraction: float) -> Stage:
    """A random share of the elements, scaled up, as sketched updates have it.

    C(x)_i = x_i n / k for i in a uniform subset of k = max(1, ceil(fraction n)) that is
    drawn from the shared key, else 0. It is ``random_k(fraction)`` under the name of
    the papers that put it between a rotation and a quantizer:
    ``hadamard | subsample(0.25) | uniform(bits=2)``. The factor is applied when
    decoding, so a quantizer that follows sees the elements as they are.

    What travels: k values (32 k bits if nothing follows); positions cost nothing.

    Args:
      fraction: share of elements kept, above 0, at most 1.

    Raises:
      InputError: fraction out of range.

    Claims: linear, unbiased, omega = n / k - 1.

    Reference: Konecny et al. 2016, section on sketched updates; Caldas et al. 2018,
    section 2.
    Deviation: a fixed number of elements, not a draw for each, so that the length of
    the message is known.
    """
    return random_k(fraction, rescale=True)
