"""A few thousand images of CIFAR-10, averaged to 16 x 16, or of Fashion-MNIST.

Command::

    python experiments/few_images.py cifar10 runs/cifar16.npz --train 4000 --test 2000
    python experiments/few_images.py fashion_mnist runs/fashion.npz --train 6000

Rows are the first of a fixed shuffle. Of CIFAR-10 each pixel is the mean of four,
rounded. The column ``is_test`` marks the rows for testing. Half a minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fedjax_compress.data import cifar10, npz
from fedjax_compress.typing import Columns

DATA = Path("../shared/data")


def averaged(images: np.ndarray) -> np.ndarray:
    """uint8 [rows, 32, 32, 3] -> uint8 [rows, 16, 16, 3]."""
    rows = len(images)
    sums = images.reshape(rows, 16, 2, 16, 2, 3).sum((2, 4), dtype=np.uint16)
    return np.round(sums / 4).astype(np.uint8)


def made(name: str, folder: Path, train: int, test: int) -> Columns:
    """Columns ``images``, ``labels`` and ``is_test`` of so many rows."""
    if name == "cifar10":
        whole = cifar10(str(folder))
    else:
        paths = [str(folder / f"{part}.npz") for part in ("train", "test")]
        whole = npz(paths[0], test=paths[1])
    rng = np.random.default_rng(16)
    parts = []
    for columns, count in ((whole.train, train), (whole.test, test)):
        rows = rng.permutation(len(columns["labels"]))[:count]
        images = columns["features"][rows]
        images = averaged(images) if name == "cifar10" else images
        parts.append((images, columns["labels"][rows]))
    images, labels = (np.concatenate(x) for x in zip(*parts, strict=True))
    is_test = np.arange(len(labels)) >= train
    return {"images": images, "labels": labels, "is_test": is_test}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=("cifar10", "fashion_mnist"))
    parser.add_argument("output", type=Path)
    parser.add_argument("--folder", type=Path, help="where the data set is")
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=2000)
    given = parser.parse_args()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    folder = given.folder or DATA / given.name
    np.savez(given.output, **made(given.name, folder, given.train, given.test))


if __name__ == "__main__":
    main()
