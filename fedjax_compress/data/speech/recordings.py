"""Recordings of speech as every form of storage gives them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fedjax_compress.errors import InputError

_FULL_SCALE = {"uint8": (128, 128), "int16": (0, 2**15), "int32": (0, 2**31)}
"""Of samples by type: what stands for silence, and for the largest sound."""


class Recordings(NamedTuple):
    """Recordings, with whose they are.

    Attributes:
      name: what messages call them.
      clips: float32 [samples] each, in -1 .. 1, at least one sample, all at one rate.
      words: of each, what is said; empty where nothing is.
      speakers: of each, who speaks.
      takes: int64 [recordings], rising in the order in which a speaker has spoken;
        recordings of one take stay together when sessions are dealt.
      sessions: of each, when or where it was made; None where that is not known.
      test: bool [recordings], what is kept for tests; None where that is not said.
    """

    name: str
    clips: list[np.ndarray]
    words: list[tuple[str, ...]]
    speakers: list[str]
    takes: np.ndarray
    sessions: list[str] | None
    test: np.ndarray | None


def as_samples(array: np.ndarray, where: str) -> np.ndarray:
    """Samples as float32 in -1 .. 1.

    Args:
      array: [samples]; int16, int32 (24 bits stand in its upper ones, as scipy reads
        them), uint8 with 128 for silence, or floats in -1 .. 1.
      where: what a message calls the recording.

    Raises:
      InputError: several channels, no samples, NaN, or floats beyond -1 .. 1.
    """
    if array.ndim != 1:
        raise InputError(
            f"{where} has samples of shape {array.shape}, but one channel is needed; "
            "keep one, or the mean of all"
        )
    if not len(array):
        raise InputError(f"{where} is empty: it has no samples; leave it out")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            spot = int(np.isfinite(array).argmin())
            raise InputError(f"{where}: sample {spot} is not finite ({array[spot]})")
        if (most := float(np.abs(array).max())) > 1:
            raise InputError(
                f"{where} reaches {most:g}, but floats must lie in -1..1; divide them "
                "by the full scale"
            )
        return array.astype(np.float32)
    if array.dtype.name not in _FULL_SCALE:
        raise InputError(
            f"{where} holds {array.dtype}, but samples must be floats or "
            f"{', '.join(_FULL_SCALE)}"
        )
    middle, most = _FULL_SCALE[array.dtype.name]
    return ((array.astype(np.float64) - middle) / most).astype(np.float32)


def check_rate(where: str, found: int, rate: int) -> None:
    """Raises InputError unless a recording has the rate that was said."""
    if found != rate:
        raise InputError(
            f"{where} has {found} samples a second, but rate is {rate}; say "
            f"rate={found} if all have, or resample it to {rate}"
        )


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once: whole numbers by size, anything else as text."""
    found = set(names)
    if all(name.isascii() and name.isdecimal() for name in found):
        return sorted(found, key=lambda name: (int(name), name))
    return sorted(found)
