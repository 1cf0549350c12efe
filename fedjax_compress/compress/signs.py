"""Signs of the elements, plain or noisy."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from fedjax_compress import wire
from fedjax_compress.compress.stages import nan_unless_finite, relative, stateless
from fedjax_compress.errors import InputError
from fedjax_compress.registry import register
from fedjax_compress.typing import Array, Claims, Side, Stage


@register("stage")
def sign(scale: Literal["mean", "one"] = "mean") -> Stage:
    """The sign of each element, times the mean magnitude of the array.

    C(x)_i = s or -s, as x_i >= 0 or not, s = ||x||_1 / n. With scale one s = 1, the
    plain signSGD. An array of zeros stays zero; one with an element that is not finite
    arrives as NaN.

    What travels: n bits; s, 32 bits. With scale one, 2 bits instead of s, which tell
    signs from zeros and from NaN.

    Args:
      scale: mean, for use under error_feedback or as it is; or one, for the aggregator
        ``majority``.

    Claims: elementwise; with scale mean a contraction with alpha = 1 / n, as
    ||x - C(x)||**2 = ||x||**2 - ||x||_1**2 / n. For Gaussian arrays it is 2 / pi.

    Reference: Bernstein et al. 2018, algorithm 1; with the mean, Karimireddy et al.
    2019, algorithm 1 (EF-signSGD is ``error_feedback(sign)``).
    Deviation: the sign of zero is plus, not zero, which one bit could not tell.
    """

    def encode(array, keys):
        array = array.astype(jnp.float32)
        side = {"symbols": wire.raw(array >= 0)}
        if scale == "one":
            return None, side | {"scales": _condition(array)}
        mean = nan_unless_finite(jnp.sum(jnp.abs(array) / array.size), array)
        return None, side | {"scales": wire.raw(mean, "scales")}

    def decode(carrier, side, shared):
        return _signed(side, 1.0)

    alpha = (lambda n: 1 / n) if scale == "mean" else None
    return stateless(encode, decode, Claims(alpha=alpha, elementwise=True))


@register("stage")
def z_sign(
    sigma: float = 0.01,
    noise: Literal["gaussian", "uniform"] = "gaussian",
    relative_to: Literal["none", "max", "rms"] = "none",
) -> Stage:
    """The sign of each element plus noise, the step of z-SignFedAvg.

    C(x)_i = eta sigma sign(x_i + sigma xi_i), with xi Gaussian and eta = sqrt(pi / 2)
    (z = 1), or xi uniform in -1 .. 1 and eta = 1 (z infinite). Its expectation is
    eta sigma (1 - 2 F(-x / sigma)), F the distribution of xi: for uniform noise x
    itself while |x| <= sigma, for Gaussian x to order x**3 / sigma**2. An array of
    zeros stays zero; one with an element that is not finite arrives as NaN.

    What travels: n bits, and 2 that tell signs from zeros and from NaN; sigma is
    configuration. Relative noise sends its sigma, 32 bits, instead of the 2.

    Args:
      sigma: size of the noise, in units of the elements or of ``relative_to``. It
        should follow the size of updates, which shrink as the learning rate does.
      noise: distribution of xi.
      relative_to: none; or max, or rms: sigma times the largest magnitude, or times the
        root mean square, of the array.

    Raises:
      InputError: sigma is not above 0, or not finite.

    Claims: elementwise; for uniform noise relative to max with sigma >= 1 unbiased,
    omega(n) = n sigma**2 - 1.

    Reference: Tang et al. 2024, algorithm 1 (z-SignFedAvg).
    Deviations: noise relative to the array is not in the paper.
    """
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma must be finite and above 0, not {sigma}")
    eta = math.sqrt(math.pi / 2) if noise == "gaussian" else 1.0
    fixed = relative_to == "none"

    def encode(array, keys):
        array = array.astype(jnp.float32)
        unit, share = relative(array)
        if relative_to == "rms":
            mean = jnp.sqrt(jnp.mean(share**2))
            unit, share = unit * mean, share / jnp.where(mean > 0, mean, 1)
        ratio = array / sigma if fixed else share / sigma
        up = norm.cdf(ratio) if noise == "gaussian" else (1 + ratio) / 2
        side = {"symbols": wire.raw(jax.random.uniform(keys.private, up.shape) < up)}
        if fixed:
            return None, side | {"scales": _condition(array)}
        step = jnp.minimum(unit * (eta * sigma), jnp.finfo(jnp.float32).max)
        step = nan_unless_finite(step, array)
        return None, side | {"scales": wire.raw(step, "scales")}

    def decode(carrier, side, shared):
        return _signed(side, eta * sigma)

    exact = noise == "uniform" and relative_to == "max" and sigma >= 1
    claims = Claims(elementwise=True)
    if exact:
        claims = claims._replace(unbiased=True, omega=lambda n: n * sigma**2 - 1)
    return stateless(encode, decode, claims)


def _condition(array: Array) -> wire.Field:
    """0: all elements are zero; 1: signs; 2: there are some that are not finite."""
    finite = nan_unless_finite(jnp.ones(()), array) == 1
    number = jnp.where(finite, jnp.any(array != 0).astype(jnp.int32), 2)
    return wire.Field(number.astype(jnp.uint8), 3, "fixed", "scales")


def _signed(side: Side, step: float) -> Array:
    """The signs times the scale that was sent, or else times ``step``."""
    scale = side["scales"].symbols
    if side["scales"].alphabet == 3:
        scale = jnp.where(scale == 1, step, jnp.where(scale == 0, 0.0, jnp.nan))
    return jnp.where(side["symbols"].symbols, scale, -scale)
