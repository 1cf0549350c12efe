"""CIFAR-10 kept as strips of lossless WebP in ``.npz`` files."""

from __future__ import annotations

import io

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data._named import prepared
from fedjax_compress.data.columns import as_labels, find, load_npz
from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


@registry.register("data")
def cifar10(folder: str = "", batches: int = 5, data_dir: str = "") -> Dataset:
    """CIFAR-10 from a folder of train_1.npz .. train_5.npz and test.npz.

    Without a folder it is the set that tensorflow-datasets has prepared, as
    tfds(cifar10) reads it; of the files of the binary version, cifar(path=...).

    Each file holds ``webp`` (uint8, lossless WebP strips of images laid end to end,
    32 pixels wide), ``ends`` (int64, the end offset of each strip) and ``labels``
    (uint8). Images come out as uint8 (32, 32, 3). No clients of its own.

    Args:
      folder: where the files are; empty for the prepared set.
      batches: how many of the five train files to read, 1 to 5.
      data_dir: folder of prepared sets; empty for the library's own default.

    Raises:
      InputError: a missing file or one that does not decode, or no prepared set; gives
        the command that prepares it.
    """
    if not folder:
        if batches != 5:
            raise InputError("batches are of a folder: give one, or leave batches out")
        return prepared("cifar10", "cifar", data_dir)
    if not 1 <= batches <= 5:
        raise InputError(f"batches must be 1 to 5, not {batches}")
    place = find(folder, "folder")
    parts = [_read(str(place / f"train_{i + 1}.npz")) for i in range(batches)]
    test_images, test_labels = _read(str(place / "test.npz"))
    return check(
        Dataset(
            "cifar10",
            Task((32, 32, 3), 10),
            {
                "features": np.concatenate([images for images, _ in parts]),
                "labels": np.concatenate([labels for _, labels in parts]),
            },
            None,
            {"features": test_images, "labels": test_labels},
        )
    )


def _read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [rows, 32, 32, 3] and labels [rows] of one file."""
    from PIL import Image

    webp, ends, labels = load_npz(path, ["webp", "ends", "labels"])
    strips = []
    for number, data in enumerate(np.split(webp, ends[:-1])):
        try:
            with Image.open(io.BytesIO(data.tobytes())) as picture:
                pixels = np.asarray(picture.convert("RGB"))
        except OSError:
            raise InputError(f"{path}: strip {number} is no image") from None
        if pixels.shape[1] != 32 or pixels.shape[0] % 32:
            raise InputError(f"{path}: strip {number} has shape {pixels.shape}")
        strips.append(pixels.reshape(-1, 32, 32, 3))
    return np.concatenate(strips), as_labels(labels, path)
