"""Links of clients: rates and latency, by profile or by hand, drawn around it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from fedjax_compress.clock.clock import Part
from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest, register

_STREAM = 0x434C4F43, 1


class Link(NamedTuple):
    """A link's medians: Mbit/s down and up, milliseconds of a round trip."""

    down: float
    up: float
    latency: float


PROFILES = {
    "lte_2012": Link(13.0, 6.0, 70.0),
    "mobile_2020": Link(35.96, 11.22, 40.0),
    "fixed_2020": Link(85.73, 45.74, 21.0),
    "mobile_5g_2021": Link(166.13, 21.08, 28.0),
    "prunefl_testbed": Link(11.5, 11.5, 0.0),
    "weak_3g": Link(1.5, 0.5, 150.0),
    "unlimited": Link(np.inf, np.inf, 0.0),
}
Profile = Literal[
    "lte_2012",
    "mobile_2020",
    "fixed_2020",
    "mobile_5g_2021",
    "prunefl_testbed",
    "weak_3g",
    "unlimited",
]


@register("clock")
def network(
    profile: Profile = "mobile_2020",
    down: float = 0.0,
    up: float = 0.0,
    latency: float = -1.0,
    sigma: float = 0.0,
    correlation: float = 0.7,
) -> Part:
    """Rates and latency of the clients' links: network(lte_2012), network(up=2).

    Seconds of a message are bits / rate; the latency is taken once a round. Rates are
    drawn for each client: profile * exp(sigma z), z normal, those up and down with a
    correlation.

    Args:
      profile: medians, see below.
      down, up: Mbit/s, 10**6 bits; 0 takes the profile's.
      latency: milliseconds, once a round; below 0 takes the profile's.
      sigma: of the logarithms; 0 gives each client the same.
      correlation: of the logarithms down and up, -1 to 1.

    Raises:
      InputError: a number out of its range.

    Reference: mobile and fixed, world means of September 2020 (Ookla's index);
    mobile_5g, median of Q3 2021 (Ookla), with the mobile latency of 2022; lte, measured
    medians of Huang et al. 2012, latency from memory; prunefl_testbed, from the
    constants of the authors' code; weak_3g is a choice of this project.
    """
    if profile not in PROFILES:
        raise InputError(f"no profile {profile!r}; {nearest(profile, list(PROFILES))}")
    base = PROFILES[profile]
    if not (down >= 0 and up >= 0):
        raise InputError(f"rates must be above 0 Mbit/s, not down {down:g}, up {up:g}")
    fits = [x in (0, np.inf) or 1e-6 <= x <= 1e12 for x in (down, up)]
    if not all(fits) or not latency <= 1e12:
        raise InputError(
            "rates must be from 1e-6 to 1e12 Mbit/s and latency at most 1e12 "
            f"milliseconds, not down {down:g}, up {up:g}, latency {latency:g}"
        )
    if not 0 <= sigma <= 20 or not -1 <= correlation <= 1:
        raise InputError(
            "sigma must be from 0 to 20 and correlation from -1 to 1, not "
            f"{sigma:g} and {correlation:g}"
        )
    rates = 1e6 * np.array([down or base.down, up or base.up])
    wait = (latency if latency >= 0 else base.latency) / 1e3
    mixed = np.array([1.0, correlation]), np.array([0.0, np.sqrt(1 - correlation**2)])

    def draw(seed: int, clients: int) -> np.ndarray:
        z = np.random.default_rng([seed, *_STREAM]).standard_normal((clients, 2))
        spread = np.exp(sigma * (z[:, :1] * mixed[0] + z[:, 1:] * mixed[1]))
        return np.column_stack([rates * spread, np.full(clients, wait)])

    return {"network": draw}
