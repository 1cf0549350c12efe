"""Tables as their usual writers write them, and data sets that must be the same."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data import Dataset


def build(text: str) -> Dataset:
    return registry.build("data", text)


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]], **dialect: Any) -> str:
    """A table as Python's own ``csv`` writes it."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, **dialect)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


def same(found: Dataset, wanted: Dataset) -> None:
    """Tasks, columns, types and clients are equal, row by row."""
    assert found.task == wanted.task
    for part in ("train", "test"):
        ours, theirs = getattr(found, part), getattr(wanted, part)
        assert set(ours) == set(theirs)
        for name in theirs:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name], theirs[name])
        ids = f"{part}_clients"
        np.testing.assert_array_equal(getattr(found, ids), getattr(wanted, ids))
