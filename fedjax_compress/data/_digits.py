"""The embedded data: handwritten digits that come with scikit-learn."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.data.split import hold_out
from fedjax_compress.typing import Task


@registry.register("data")
def digits() -> Dataset:
    """Embedded handwritten digits, 8x8, 10 classes: 1,437 train, 360 test images.

    Features are float32 in [0, 1] of shape (8, 8, 1). The test part holds a fifth of
    each class and is the same whatever the run's seed. No clients of its own.

    Reference: "Optical recognition of handwritten digits" (Alpaydin, Kaynak; UCI,
    1998), its test part, as scikit-learn ships it.
    """
    images, labels = _stored()
    features = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    labels = labels.astype(np.int32)
    test = hold_out(labels, 0.2)
    return check(
        Dataset(
            "digits",
            Task((8, 8, 1), 10),
            {"features": features[~test], "labels": labels[~test]},
            None,
            {"features": features[test], "labels": labels[test]},
        )
    )


def _stored() -> tuple[np.ndarray, np.ndarray]:
    """The file that scikit-learn ships: 1,797 rows of 64 pixels and the digit.

    Read directly where it lies as it does today: the import of scikit-learn takes a
    second. Elsewhere through scikit-learn itself, with the same result.
    """
    found = importlib.util.find_spec("sklearn")
    for place in (found and found.submodule_search_locations) or ():
        path = Path(place, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            with gzip.open(path, "rt", encoding="ascii") as lines:
                table = np.loadtxt(lines, delimiter=",")
            return table[:, :-1], table[:, -1].astype(int)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels
