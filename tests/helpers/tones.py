"""Small recordings of tones, in a file and in a folder."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from scipy.io import wavfile

RATE = 8000
SPEAKERS, TAKES = ("ann", "bob", "cyd"), 8
COUNT = len(SPEAKERS) * TAKES
ROWS = [
    {"file": f"{who}/{i}.wav", "transcript": said, "speaker": who, "test": str(i // 3)}
    for who in ("dan", "eve")
    for i, said in enumerate(["a cat", "", "a dog ", "Cat"])
]
"""Of the table of a folder."""


def recordings() -> dict[str, np.ndarray]:
    """int16 tones of 30 to 53 ms, one after the other, each with a label of its own.

    Takes 0 and 1 of the eight of each speaker are for tests.
    """
    clips = [
        np.round(9000 * np.sin(0.3 * (1 + i / 50) * np.arange(240 + 8 * i)))
        for i in range(COUNT)
    ]
    return {
        "audio": np.concatenate(clips).astype(np.int16),
        "ends": np.cumsum([len(clip) for clip in clips]),
        "labels": np.arange(COUNT),
        "speakers": np.arange(COUNT) // TAKES,
        "speaker_names": np.array(SPEAKERS),
        "takes": np.arange(COUNT) % TAKES,
        "is_test": np.arange(COUNT) % TAKES < 2,
    }


def write_arrays(place: Path, **changed: np.ndarray | None) -> str:
    """The path of a file of ``recordings``, but for what differs; None is left out."""
    arrays = {n: x for n, x in (recordings() | changed).items() if x is not None}
    np.savez(place / "tones.npz", **arrays)
    return str(place / "tones.npz")


def write_folder(
    place: Path,
    rows: list[dict[str, str]] = ROWS,
    samples: dict[str, np.ndarray] | None = None,
    rate: int = RATE,
) -> str:
    """The path of a folder of WAV files, some with other samples, and their table."""
    sounds = {row["file"]: np.full(500, 300, np.int16) for row in ROWS}
    for file, x in (sounds | (samples or {})).items():
        (place / file).parent.mkdir(exist_ok=True)
        wavfile.write(place / file, rate, x)
    with open(place / "table.csv", "w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return str(place)
