"""Rows for the recipes: those of a folder, or synthetic ones of the same shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedjax_compress import data
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Columns, Task

SYNTHETIC = "synthetic rows of the same shape; accuracies on them mean nothing"
_SEED, _DISTINCT = 7, 50_000


def femnist(
    folder: Path | None, writers: int, mean_rows: float, test_rows: int
) -> tuple[Dataset, str]:
    """28 x 28 pixels, 62 classes, by writer; and words that say what they are.

    Args:
      folder: with femnist/writers_105.npz, or None.
      writers: of the synthetic rows.
      mean_rows: of a writer of the synthetic rows.
      test_rows: of the synthetic rows.
    """

    def real(folder: Path) -> Dataset:
        path = str(folder / "femnist" / "writers_105.npz")
        return data.npz(path, client="writers", test_column="is_test")

    def made() -> Dataset:
        random = np.random.default_rng(_SEED)
        # Lognormal like bench's, of this mean.
        sizes = np.exp(0.4 * random.standard_normal(writers))
        sizes = np.maximum(1, np.rint(sizes * mean_rows / sizes.mean())).astype(int)
        owner = np.repeat(np.arange(writers, dtype=np.int32), sizes)
        return _made("femnist", Task((28, 28, 1), 62), owner, len(owner), test_rows)

    return _real_or_made(folder, real, made)


def cifar10(folder: Path | None, rows: int, test_rows: int) -> tuple[Dataset, str]:
    """32 x 32 x 3 pixels, 10 classes, no clients; likewise.

    Args:
      folder: with cifar10/, or None.
      rows, test_rows: of the synthetic rows.
    """

    def real(folder: Path) -> Dataset:
        return data.cifar10(str(folder / "cifar10"))

    def made() -> Dataset:
        return _made("cifar10", Task((32, 32, 3), 10), None, rows, test_rows)

    return _real_or_made(folder, real, made)


def _real_or_made(
    folder: Path | None, real: Callable[[Path], Dataset], made: Callable[[], Dataset]
) -> tuple[Dataset, str]:
    if folder is None:
        return made(), SYNTHETIC
    try:
        found = real(folder)
    except (InputError, ImportError) as error:
        why = " ".join(str(error).split()).split(";")[0]
        return made(), f"{SYNTHETIC} (--data: {why})"
    return found, f"{found.name}, real rows"


def _made(
    name: str, task: Task, owner: np.ndarray | None, rows: int, test_rows: int
) -> Dataset:
    """Noise on a pattern of 4 x 4 blocks for each class, uint8; at most ``_DISTINCT``
    rows, some of them more than once where more are wanted."""
    random = np.random.default_rng(_SEED)
    height, width, channels = task.shape
    coarse = (task.classes, height // 4, width // 4, channels)
    pattern = random.integers(0, 128, coarse, np.uint8).repeat(4, 1).repeat(4, 2)

    def draw(number: int) -> Columns:
        if number > _DISTINCT:
            distinct = draw(_DISTINCT)
            which = random.integers(0, _DISTINCT, number)
            return {name: column[which] for name, column in distinct.items()}
        labels = random.integers(0, task.classes, number).astype(np.int32)
        noise = random.integers(0, 128, (number, *task.shape), np.uint8)
        noise += pattern[labels]
        return {"features": noise, "labels": labels}

    return Dataset(name, task, draw(rows), owner, draw(test_rows))
