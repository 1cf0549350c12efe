"""Small data sets, and others that differ from them in a column."""

from __future__ import annotations

import dataclasses

import numpy as np

from fedjax_compress.data import Dataset
from fedjax_compress.typing import Task


def changed(data: Dataset, **columns) -> Dataset:
    """The data with other columns, as in ``train_labels=...``, or another ``task``."""
    parts = {"train": dict(data.train), "test": dict(data.test)}
    fields = {}
    for name, value in columns.items():
        part, _, column = name.partition("_")
        if part in parts and column != "clients":
            parts[part][column] = value
        else:
            fields[name] = value
    return dataclasses.replace(data, **parts, **fields)


def two_classes(rows: int = 12, features: np.ndarray | None = None) -> Dataset:
    """Rows of three features, the same to learn from and to test on."""
    if features is None:
        features = np.zeros((rows, 3), np.float32)
    columns = {"features": features, "labels": np.arange(rows, dtype=np.int32) % 2}
    return Dataset("small", Task((3,), 2), columns, None, columns)
