"""The compressors whose cost ``bench --overhead`` measures."""

from __future__ import annotations

from fedjax_compress import spec
from fedjax_compress.errors import InputError

IDENTITY = "identity"
_ROTATED = "hadamard | uniform(bits=4)"
Links = tuple[str, str]
"""Specifications of up and downlink."""

UPLINKS = (
    "uniform(bits=8)",
    _ROTATED,
    "qsgd(bits=4)",
    "sign",
    "terngrad",
    "drive",
    "eden(bits=2)",
    "kashin | uniform(bits=4)",
    "top_k(0.01)",
    "power_sgd",
    "dgc",
    "error_feedback(one_bit)",
    "error_feedback(top_k(0.01))",
    f"error_feedback({_ROTATED})",
)
"""What is measured of the uplink: a line for each, whatever is registered."""

OVERHEAD: tuple[Links, ...] = (
    (IDENTITY, IDENTITY),
    *((uplink, IDENTITY) for uplink in UPLINKS),
    (_ROTATED, _ROTATED),
)
"""Up and downlink of each engine that ``overhead`` measures, the bare one first."""


def links(uplink: str = IDENTITY) -> tuple[Links, ...]:
    """The links to measure: those of ``OVERHEAD``, or the bare one and some uplinks.

    Args:
      uplink: specifications joined by ``;``; ``identity`` for ``OVERHEAD``.

    Raises:
      InputError: an empty one, or one twice.
    """
    if uplink == IDENTITY:
        return OVERHEAD
    named = [part.strip() for part in spec.split(uplink, ";")]
    if not all(named) or len(set(named)) < len(named):
        raise InputError(
            f"uplink {uplink!r} needs different specifications joined by ';', as in "
            "'top_k(0.01); qsgd(bits=4)'"
        )
    more = [part for part in named if part != IDENTITY]
    return ((IDENTITY, IDENTITY), *((part, IDENTITY) for part in more))
