"""Speeds of the clients' devices: one for all, drawn, or by class."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedjax_compress.clock.clock import Part
from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest, register

_STREAM, _CLASSES = (0x434C4F43, 2), (0x434C4F43, 3)
PROFILES = {
    "phone": 10.0,
    "phone_high": 40.0,
    "raspberry_pi_3": 1.5,
    "raspberry_pi_4": 4.5,
    "jetson_nano": 150.0,
}
Profile = Literal[
    "phone", "phone_high", "raspberry_pi_3", "raspberry_pi_4", "jetson_nano"
]


@register("clock")
def devices(
    profile: Profile = "phone",
    gflops: float = 0.0,
    sigma: float = 0.0,
    coding: float = 0.0,
) -> Part:
    """Speeds of devices, drawn around a median: devices(phone, sigma=0.6).

    Seconds of computing are 6 * (multiply-accumulates of a forward pass) * (rows that
    the client learns from, each as often as it is seen) / speed: a product is two
    operations, and training takes three passes. Speeds are median * exp(sigma z).

    Args:
      profile: a median in GFLOP/s: phone 10, phone_high 40, raspberry_pi_3 1.5,
        raspberry_pi_4 4.5, jetson_nano 150.
      gflops: the median by hand; 0 takes the profile's.
      sigma: of the logarithms; 0 gives all clients the same. FedScale's is 0.6.
      coding: operations for each parameter, to decode what comes and to encode what
        goes, each.

    Raises:
      InputError: a number out of its range.

    Reference: rough figures of what such devices reach while they train, from memory;
    measure your own.
    """
    if profile not in PROFILES:
        raise InputError(f"no profile {profile!r}; {nearest(profile, list(PROFILES))}")
    drawn = 0 <= sigma <= 20 and 0 <= coding < np.inf
    if not drawn or not (gflops == 0 or gflops >= 1e-9):
        raise InputError(
            "gflops must be at least 1e-9, sigma from 0 to 20, coding at least 0, not "
            f"{gflops:g}, {sigma:g}, {coding:g}"
        )
    median = 1e9 * (gflops or PROFILES[profile])

    def draw(seed: int, clients: int) -> np.ndarray:
        z = np.random.default_rng([seed, *_STREAM]).standard_normal(clients)
        return median * np.exp(sigma * z)

    return {"devices": draw, "coding": coding}


@register("clock")
def device_classes(
    gflops: tuple[float, ...],
    shares: tuple[float, ...] = (),
    sigma: float = 0.0,
    coding: float = 0.0,
) -> Part:
    """A few classes of devices: device_classes((2, 10, 40), shares=(0.3, 0.5, 0.2)).

    Args:
      gflops: median of each class, GFLOP/s.
      shares: chance of each class, which sum to 1; none: all the same.
      sigma, coding: as in ``devices``.

    Raises:
      InputError: a number out of its range, or shares that do not fit.
    """
    drawn = 0 <= sigma <= 20 and 0 <= coding < np.inf
    if not gflops or not all(x >= 1e-9 for x in gflops) or not drawn:
        raise InputError(
            "gflops must be at least 1e-9, one for each class, sigma from 0 to 20, "
            "coding at least 0"
        )
    chances = np.asarray(shares or [1 / len(gflops)] * len(gflops), float)
    if (
        len(chances) != len(gflops)
        or not (chances >= 0).all()
        or not abs(chances.sum() - 1) <= 1e-6
    ):
        raise InputError(
            f"shares must be {len(gflops)} numbers, one for each class, that sum to 1"
        )
    ends = np.cumsum(chances / chances.sum())[:-1]

    def draw(seed: int, clients: int) -> np.ndarray:
        place = np.random.default_rng([seed, *_CLASSES]).random(clients)
        mine = 1e9 * np.asarray(gflops)[np.searchsorted(ends, place, side="right")]
        z = np.random.default_rng([seed, *_STREAM]).standard_normal(clients)
        return mine * np.exp(sigma * z)

    return {"devices": draw, "coding": coding}
