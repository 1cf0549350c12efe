"""What clients draw from their batteries."""

from __future__ import annotations

import numpy as np

from fedjax_compress.clock import Power, Spans

Array = np.ndarray


def joules(
    power: Power, rates: Array, found: Spans, until: Array, sends: Array, waits: Array
) -> Array:
    """What each client has drawn, float64 [n]: first down, then computing, then up.

    Args:
      power: watts.
      rates: float64 [n, 2], bit/s down and up.
      found: what each needs.
      until: seconds of them after which each leaves off.
      sends: bool [n], who sends a report at all.
      waits: seconds for which each waits for others.
    """
    down = np.minimum(found.download, until)
    compute = np.clip(until - found.download, 0, found.compute)
    up = np.clip(until - found.download - found.compute, 0, found.upload)
    up = np.where(sends, up, 0.0)
    mega = np.where(np.isfinite(rates), rates, 0) / 1e6
    return np.asarray(
        (power.per_down * mega[:, 0] + power.radio) * down
        + (power.per_up * mega[:, 1] + power.radio) * up
        + power.compute * compute
        + power.idle * waits
        + power.tail
    )
