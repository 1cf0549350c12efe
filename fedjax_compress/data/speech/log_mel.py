"""Log-mel features: how loud a sound is, frame by frame, at each pitch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_compress.errors import InputError

_LONGEST = 10
"""Seconds of a window or a hop, at most."""
FLOOR = 1e-5
"""What is added to a power before its logarithm is taken."""


class LogMel(NamedTuple):
    """What features are computed with; ``frames`` of samples x are

        x'[n] = x[n] - preemphasis x[n-1]
        X_t[k] = sum_n w[n] x'[t hop + n] exp(-2 pi i k n / K),   w: Hann's window
        log(sum_k filters[k, b] |X_t[k]|^2 + 1e-5)

    Attributes:
      window: float32 [samples of a frame], w[n] = (1 - cos(2 pi n / samples)) / 2.
      hop: samples from one frame to the next.
      filters: float32 [K / 2 + 1, bins]; K is the first power of two that is not less
        than the samples of a frame.
      preemphasis: share of a sample that is taken from the next.
    """

    window: np.ndarray
    hop: int
    filters: np.ndarray
    preemphasis: float

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """float32 [frames, bins] of float32 [samples].

        There are as many frames as fit, 1 + floor((samples - window) / hop); what is
        shorter than a window is filled with zeros to a single one.
        """
        width = len(self.window)
        x = np.zeros(max(len(samples), width), np.float32)
        x[: len(samples)] = samples
        if self.preemphasis:
            x[1 : len(samples)] -= np.float32(self.preemphasis) * samples[:-1]
        cut = np.lib.stride_tricks.sliding_window_view(x, width)[:: self.hop]
        spectrum = np.fft.rfft(cut * self.window, 2 * (len(self.filters) - 1))
        power = spectrum.real**2 + spectrum.imag**2
        # Not by BLAS, whose threads wait for each other far longer than they compute.
        bands = np.einsum("tk,kb->tb", power.astype(np.float32), self.filters)
        return np.log(bands + np.float32(FLOOR))


def log_mel(
    rate: int,
    bins: int = 40,
    window: float = 0.025,
    hop: float = 0.010,
    low: float = 60.0,
    high: float = 3800.0,
    preemphasis: float = 0.0,
) -> LogMel:
    """Features of ``bins`` triangular filters, equally spaced on the mel scale.

    Args:
      rate: samples a second.
      bins: number of filters.
      window, hop: of a frame, and from one to the next, in seconds.
      low, high: where the first filter begins and the last one ends, in Hz.
      preemphasis: in [0, 1); 0.97 is usual for speech with more bass than treble.

    Raises:
      InputError: frames without samples, frequencies that samples at this rate do not
        have, more filters than the window can tell apart.
    """
    if not (2 / rate <= window <= _LONGEST and 1 / rate <= hop <= _LONGEST):
        raise InputError(
            f"window and hop must be at least 2 samples and 1 sample, and at most "
            f"{_LONGEST} s, not {window:g} s and {hop:g} s at {rate} samples a second"
        )
    width, step = max(2, round(window * rate)), max(1, round(hop * rate))
    if not 0 <= low < high <= rate / 2:
        raise InputError(
            f"low and high must satisfy 0 <= low < high <= {rate / 2:g} Hz, half the "
            f"rate, not {low:g} and {high:g}"
        )
    if not 0 <= preemphasis < 1:
        raise InputError(f"preemphasis must lie in [0, 1), not {preemphasis:g}")
    size = 1 << (width - 1).bit_length()
    if not 1 <= bins <= size // 2:
        raise InputError(
            f"bins must be 1 to {size // 2}, the frequencies that a window of "
            f"{window:g} s tells apart, not {bins}"
        )
    filters = mel_filters(rate, size, bins, low, high)
    empty = ~(filters > 0).any(axis=0)
    if empty.any():
        raise InputError(
            f"bins={bins} are too many: no frequency of a window of {window:g} s falls "
            f"into filter {int(empty.argmax())}; lower bins, or widen the window"
        )
    angle = 2 * np.pi * np.arange(width) / width
    hann = ((1 - np.cos(angle)) / 2).astype(np.float32)
    return LogMel(hann, step, filters.astype(np.float32), float(preemphasis))


def mel(frequency: np.ndarray) -> np.ndarray:
    """2595 log10(1 + f / 700) of frequencies in Hz."""
    return 2595 * np.log10(1 + frequency / 700)


def mel_filters(rate: int, size: int, bins: int, low: float, high: float) -> np.ndarray:
    """float64 [size / 2 + 1, bins]: what each frequency of a transform counts for.

    With m = mel(k rate / size) and edges e_0 < ... < e_(bins + 1) that are equally
    spaced from mel(low) to mel(high)::

        filters[k, b] = max(0, min((m - e_b) / step, (e_(b+2) - m) / step))
    """
    edges = np.linspace(mel(np.array(low)), mel(np.array(high)), bins + 2)
    step = edges[1] - edges[0]
    m = mel(np.arange(size // 2 + 1) * rate / size)[:, None]
    return np.maximum(0, np.minimum(m - edges[:-2], edges[2:] - m) / step)
