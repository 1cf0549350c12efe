"""What stored features are divided by: pixels, or numbers as they are."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.values import pieces
from fedjax_compress.errors import InputError
from fedjax_compress.typing import PIXEL, has_pictures

Scale = float | Literal["auto", "none"]
"""A divisor; ``none`` for numbers as they are; ``auto`` for the rule of ``divisor``."""
_OF_TASK = "Task(..., scale=255) or Task(..., scale=1)"
_UNIT, _BYTES, _OTHER = "numbers in 0..1", "whole numbers in 0..255", "other numbers"


def divisor(
    scale: Scale,
    train: np.ndarray,
    test: np.ndarray,
    where: str,
    said: str = "scale=255 or scale=none",
) -> float:
    """What features are divided by before a network reads them.

    ``auto``: pictures (two axes longer than one, besides the rows) of any integer type
    whose numbers all lie in 0..255, some above 1, are pixels: 255; where one part has
    such pixels, the other may be dark. All else is taken as it is: 1. So columns of a
    table and tokens stay what they are.

    Args:
      scale: see ``Scale``.
      train: features as stored, [rows, ...].
      test: likewise. Both parts are divided by the same number.
      where: what a message calls the data.
      said: what a message says to write instead.

    Raises:
      InputError: features that are no numbers; a divisor that is not positive and
        finite; or, for ``auto``, parts that differ so that no one number can be right:
        integers and floats, or floats in 0..1 and whole numbers in 0..255.
    """
    if scale != "auto":
        value = 1.0 if scale == "none" else float(scale)
        if not 0 < value < math.inf:
            raise InputError(f"scale must be auto, none or above 0, not {scale}")
        return value
    for part in (train, test):
        if part.dtype.kind not in "biuf":
            raise InputError(f"{where}: features must be numbers, not {part.dtype}")
    real = train.dtype.kind == "f"
    if real != (test.dtype.kind == "f"):
        raise _conflict(where, str(train.dtype), str(test.dtype), said)
    alike = train.shape[1:] == test.shape[1:] and len(train) and len(test)
    if not alike or not has_pictures(train.shape[1:]):
        return 1.0  # what does not fit is refused elsewhere
    a, b = _numbers(train), _numbers(test)
    if real and {a, b} == {_UNIT, _BYTES}:
        raise _conflict(where, a, b, said)
    return PIXEL if not real and {_BYTES} <= {a, b} <= {_UNIT, _BYTES} else 1.0


def _conflict(where: str, train: str, test: str, said: str) -> InputError:
    return InputError(
        f"{where}: features are {train} in the train part, but {test} in the test "
        f"part; store both alike, or say by what both are divided, as in {said}"
    )


def _numbers(features: np.ndarray) -> str:
    """What the numbers look like; reads no more of them than it takes to tell."""
    high = 0.0
    for _, part in pieces(features):
        high = max(high, float(part.max()))
        if not (part.min() >= 0 and high <= PIXEL):
            return _OTHER
        if high > 1 and features.dtype == np.uint8:
            return _BYTES
        if high > 1 and part.dtype.kind == "f" and (part != np.round(part)).any():
            return _OTHER
    return _BYTES if high > 1 else _UNIT


def scaled(dataset: Dataset) -> Dataset:
    """The dataset, whose task says what its features are divided by.

    What its source has said stays; else the rule is that of ``divisor``.

    Raises:
      InputError: parts that differ in kind or range.
    """
    task = dataset.task
    if task.tokens or task.scale is not None:
        return dataset
    parts = dataset.train["features"], dataset.test["features"]
    value = divisor("auto", *parts, dataset.name, _OF_TASK)
    return dataclasses.replace(dataset, task=task._replace(scale=value))
