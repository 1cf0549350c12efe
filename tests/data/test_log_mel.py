"""Log-mel features: the formula, computed anew; where tones lie; gaps and orders."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress.data.speech.joining import generator, joining
from fedjax_compress.data.speech.log_mel import log_mel
from fedjax_compress.errors import InputError

RATE = 8000
RNG = np.random.default_rng(0)


def tone(frequency, seconds, rate=RATE):
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def mel(frequency):
    return 2595 * np.log10(1 + frequency / 700)


def by_hand(samples, width, hop, size, rate, bins, low, high):
    """The formula in float64: sums over samples, triangles one frequency at a time."""
    x = np.zeros(max(len(samples), width))
    x[: len(samples)] = samples
    edges = [
        mel(low) + i * (mel(high) - mel(low)) / (bins + 1) for i in range(bins + 2)
    ]
    n = np.arange(width)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / width)
    wave = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), n) / size)
    rows = []
    for start in range(0, len(x) - width + 1, hop):
        power = abs(wave @ (hann * x[start : start + width])) ** 2
        row = np.zeros(bins)
        for b in range(bins):
            left, top, right = edges[b : b + 3]
            for k, p in enumerate(power):
                m = mel(k * rate / size)
                if left < m <= top:
                    row[b] += p * (m - left) / (top - left)
                elif top < m < right:
                    row[b] += p * (right - m) / (right - top)
        rows.append(np.log(row + 1e-5))
    return np.array(rows)


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (RNG.normal(0, 0.1, 1234), {}),
        (tone(440, 0.1), {}),
        (RNG.normal(0, 0.001, 150), {}),  # shorter than a window
        (RNG.normal(0, 0.1, 999), {"bins": 13, "low": 0.0, "high": 4000.0}),
        (RNG.normal(0, 0.1, 999), {"window": 0.032, "hop": 0.032}),
        (RNG.normal(0, 0.1, 2000), {"rate": 16000, "bins": 80, "high": 7600.0}),
    ],
)
def test_the_formula(samples, options):
    samples = samples.astype(np.float32)
    said = {"rate": RATE, "bins": 40, "low": 60.0, "high": 3800.0} | options
    width = round(said["rate"] * said.pop("window", 0.025))
    hop = round(said["rate"] * said.pop("hop", 0.010))
    size = 512 if said["rate"] == 16000 else 256
    found = log_mel(**({"rate": RATE} | options)).frames(samples)
    expected = by_hand(samples.astype(float), width, hop, size, **said)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_preemphasis_is_a_difference_of_samples():
    x = RNG.normal(0, 0.1, 1000).astype(np.float32)
    y = np.concatenate([x[:1], x[1:] - np.float32(0.97) * x[:-1]])
    np.testing.assert_array_equal(
        log_mel(RATE, preemphasis=0.97).frames(x), log_mel(RATE).frames(y)
    )


@pytest.mark.parametrize("frequency", [200, 440, 1000, 2000, 3500])
def test_a_tone_is_loudest_where_its_frequency_lies(frequency):
    frames = log_mel(RATE).frames(tone(frequency, 0.2))
    centres = np.linspace(mel(60), mel(3800), 42)[1:-1]
    nearest = int(abs(centres - mel(frequency)).argmin())
    assert set(frames.argmax(axis=1)) == {nearest}


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (200, 1), (279, 1), (280, 2), (1000, 11)]
)
def test_the_number_of_frames(samples, frames):
    assert log_mel(RATE).frames(np.ones(samples, np.float32)).shape == (frames, 40)


def test_silence_is_the_logarithm_of_the_floor():
    frames = log_mel(RATE).frames(np.zeros(1000, np.float32))
    np.testing.assert_allclose(frames, np.log(1e-5), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 120}, "bins=120 are too many: no frequency of a window of 0.025 s"),
        ({"bins": 0}, "bins must be 1 to 128"),
        ({"high": 4001.0}, "low < high <= 4000 Hz, half the rate, not 60 and 4001"),
        ({"low": 4000.0}, "low < high"),
        ({"window": 0.0}, "window and hop must be at least"),
        ({"hop": 0.00001}, "window and hop must be at least"),
        ({"preemphasis": 1.0}, "preemphasis must lie in"),
    ],
)
def test_features_that_cannot_be_are_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        log_mel(RATE, **options)
    assert "\n" not in str(caught.value)


def test_each_recording_stands_in_as_many_utterances_as_it_is_used():
    how = joining((3, 5), (0.0, 0.0), 0.0, RATE)
    for count in (1, 2, 7, 150):
        runs = how.order(count, 4, generator(0, "train", "ann", "0"))
        used = np.bincount(np.concatenate(runs), minlength=count)
        assert used.tolist() == [4] * count
        sizes = [len(run) for run in runs]
        assert max(sizes) <= 5
        assert sum(size < 3 for size in sizes) <= 4  # the last run of each pass
    # sizes are uniform: of about 120 runs that are no last ones, a third of each,
    # binomial with a standard deviation of 5.2
    assert all(abs(sizes.count(n) - len(sizes) / 3) < 6 * 5.2 for n in (3, 4, 5))


def test_gaps_are_noise_and_speech_is_left_as_it_is():
    clips = [tone(300, 0.1), tone(500, 0.2)]
    how = joining((2, 2), (0.1, 0.1), 0.001, RATE)
    x = how.join(clips, generator(0, "train", "ann", "0"))
    assert x.dtype == np.float32
    assert len(x) == 3 * 800 + 800 + 1600
    np.testing.assert_array_equal(x[800:1600], clips[0])
    np.testing.assert_array_equal(x[2400:4000], clips[1])
    noise = np.concatenate([x[:800], x[1600:2400], x[4000:]])
    # relative standard error of a deviation from 2,400 draws: 1 / sqrt(4800) = 0.0144
    assert abs(noise.std() / 0.001 - 1) < 6 * 0.0144
    assert abs(noise.mean()) < 6 * 0.001 / np.sqrt(2400)


def test_gaps_are_uniform():
    """1,000 gaps in samples: standard error of the mean 800 / sqrt(12,000) = 7.3."""
    how = joining((1, 1), (0.05, 0.15), 0.0, RATE)
    rng = generator(0, "train", "ann", "0")
    clips = [np.ones(1, np.float32)] * 999
    spots = np.flatnonzero(np.append(how.join(clips, rng), 1))
    gaps = np.diff(spots, prepend=-1) - 1
    assert gaps.min() >= 400
    assert gaps.max() <= 1200
    assert abs(gaps.mean() - 800) < 6 * 7.3


def test_a_single_recording_without_gaps_is_left_as_it_is():
    how = joining((1, 1), (0.0, 0.0), 0.001, RATE)
    clip = tone(440, 0.1)
    found = how.join([clip], generator(0, "train", "ann", "0"))
    np.testing.assert_array_equal(found, clip)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (((0, 2), (0.0, 0.1), 0.0), r"join must be .* not \(0, 2\)"),
        (((3, 2), (0.0, 0.1), 0.0), "join must be"),
        (((3,), (0.0, 0.1), 0.0), "join must be"),
        (((3, 5), (0.2, 0.1), 0.0), "gap must be"),
        (((3, 5), (0.1,), 0.0), "gap must be"),
        (((3, 5), (-0.1, 0.1), 0.0), "gap must be"),
        (((3, 5), (0.0, np.inf), 0.0), "gap must be"),
        (((3, 5), (0.0, 0.1), -1.0), "noise must lie"),
        (((3, 5), (0.0, 0.1), np.nan), "noise must lie"),
    ],
)
def test_utterances_that_cannot_be_are_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        joining(*options, RATE)
    assert "\n" not in str(caught.value)
