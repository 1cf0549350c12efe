"""What a round draws from batteries."""

from __future__ import annotations

import math
from typing import Literal

from fedjax_compress.clock.clock import Part, Power
from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest, register

_RADIOS = {
    "lte": (438.39, 51.97, 1288.04, 11.6 * 1.06),
    "umts": (868.98, 122.12, 817.88, 0.0),
    "wifi": (283.17, 137.01, 132.86, 0.0),
}
"""Milliwatts for each Mbit/s up and down, milliwatts besides, joules of the tail."""
Radio = Literal["lte", "umts", "wifi"]


@register("clock")
def energy(
    radio: Radio = "lte", compute: float = 3.0, idle: float = 0.0, tail: bool = True
) -> Part:
    """Energy of clients: radio by its rates, computing, waiting: energy(wifi).

    joules = compute t_comp + (a_d down + b) t_down + (a_u up + b) t_up + idle t_wait,
    and the tail of the radio once; rates in Mbit/s.

    Args:
      radio: lte, umts (3G) or wifi: a_u, a_d, b, and the tail (lte: 12.3 J).
      compute: watts while computing.
      idle: watts while a client waits for the others.
      tail: whether the tail is counted; of short messages it is most of all.

    Raises:
      InputError: a number below 0.

    Reference: Huang et al. 2012, table of power models (from memory); watts of phones
    while computing are 2 to 4 (from memory).
    """
    if not 0 <= compute < math.inf or not 0 <= idle < math.inf:
        raise InputError(f"watts must be at least 0, not {compute:g} and {idle:g}")
    if radio not in _RADIOS:
        raise InputError(f"no radio {radio!r}; {nearest(radio, list(_RADIOS))}")
    up, down, base, joules = _RADIOS[radio]
    watts = (up / 1e3, down / 1e3, base / 1e3)
    return {"power": Power(*watts, compute, idle, joules if tail else 0.0)}
