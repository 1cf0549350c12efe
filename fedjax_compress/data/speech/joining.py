"""Utterances: recordings of one speaker, one after the other, with gaps of noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_compress.errors import InputError


class Joining(NamedTuple):
    """How recordings become utterances.

    Attributes:
      fewest, most: recordings in an utterance.
      gap: shortest and longest gap, in seconds.
      noise: standard deviation of the noise in the gaps; 1 is full scale.
      rate: samples a second.
    """

    fewest: int
    most: int
    gap: tuple[float, float]
    noise: float
    rate: int

    def order(self, count: int, uses: int, rng: np.random.Generator) -> list:
        """Which of ``count`` recordings stand in each utterance, int64 [some] each.

        All of them in a random order, cut into runs of ``fewest`` to ``most`` drawn
        uniformly; the last run is what is left, be it fewer. That ``uses`` times.
        """
        runs = []
        for _ in range(uses):
            rest = rng.permutation(count)
            while len(rest):
                size = int(rng.integers(self.fewest, self.most, endpoint=True))
                runs.append(rest[:size])
                rest = rest[size:]
        return runs

    def join(self, clips: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """float32 [samples]: a gap, a clip, a gap, a clip, ..., a gap."""
        seconds = rng.uniform(*self.gap, len(clips) + 1)
        first, *others = (
            (self.noise * rng.standard_normal(n)).astype(np.float32)
            for n in np.rint(seconds * self.rate).astype(np.int64)
        )
        pairs = zip(clips, others, strict=True)
        return np.concatenate([first, *(part for pair in pairs for part in pair)])


def joining(
    join: tuple[int, ...], gap: tuple[float, ...], noise: float, rate: int
) -> Joining:
    """What the options say.

    Raises:
      InputError: numbers that cannot be.
    """
    if len(join) != 2 or not 1 <= join[0] <= join[1]:
        raise InputError(
            "join must be the fewest and the most recordings of an utterance, as in "
            f"(3, 5), not {join}"
        )
    if len(gap) != 2 or not 0 <= gap[0] <= gap[1] < np.inf:
        raise InputError(
            "gap must be the shortest and the longest, in seconds, as in (0.05, 0.15), "
            f"not {gap}"
        )
    if not 0 <= noise <= 1:
        raise InputError(f"noise must lie in 0..1, full scale, not {noise:g}")
    return Joining(join[0], join[1], (gap[0], gap[1]), noise, rate)


def generator(seed: int, part: str, speaker: str, session: str) -> np.random.Generator:
    """Draws for one client's list that depend on nobody else."""
    whose = "\0".join((part, speaker, session))
    return np.random.default_rng([seed % 2**63, *whose.encode()])
