"""CIFAR-10 averaged to 16 x 16, a few thousand rows of it, as an .npz file.

Command::

    python experiments/small_cifar10.py runs/cifar16.npz --train 4000 --test 2000

Each pixel is the mean of four, rounded; rows are the first of a fixed shuffle. The
column ``is_test`` marks the rows for testing. ``--skip 4000`` leaves out the rows that
another file has taken. Half a minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fedjax_compress.data import cifar10

FOLDER = "../shared/data/cifar10"


def averaged(images: np.ndarray) -> np.ndarray:
    """uint8 [rows, 32, 32, 3] -> uint8 [rows, 16, 16, 3]."""
    rows = len(images)
    sums = images.reshape(rows, 16, 2, 16, 2, 3).sum((2, 4), dtype=np.uint16)
    return np.round(sums / 4).astype(np.uint8)


def made(folder: str, train: int, test: int, skip: int = 0) -> dict[str, np.ndarray]:
    """Columns ``images``, ``labels`` and ``is_test`` of so many rows."""
    whole, rng = cifar10(folder), np.random.default_rng(16)
    parts = []
    for columns, first, count in ((whole.train, skip, train), (whole.test, 0, test)):
        rows = rng.permutation(len(columns["labels"]))[first : first + count]
        parts.append((averaged(columns["features"][rows]), columns["labels"][rows]))
    images, labels = (np.concatenate(x) for x in zip(*parts, strict=True))
    return {"images": images, "labels": labels, "is_test": np.arange(len(labels)) >= train}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--folder", default=FOLDER)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--skip", type=int, default=0)
    given = parser.parse_args()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(given.output, **made(given.folder, given.train, given.test, given.skip))


if __name__ == "__main__":
    main()
