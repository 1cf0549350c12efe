"""What a network reads and what it predicts, in a few words."""

from __future__ import annotations

from fedjax_compress.data.dataset import Dataset
from fedjax_compress.typing import PIXEL, has_pictures

_MEANT = ("lengths", "label_lengths", "weights")


def describe_features(dataset: Dataset) -> str:
    """How features are read: ``uint8 pixels / 255``; and further columns there are."""
    more = [name for name, *_ in dataset.task.more if name not in _MEANT]
    return ", ".join(
        [_features(dataset), *([f"with {' and '.join(more)}"] * bool(more))]
    )


def _features(dataset: Dataset) -> str:
    task, kind = dataset.task, dataset.train["features"].dtype
    if task.tokens:
        return f"{kind} tokens"
    scale = task.scale or 1.0
    if scale == 1:
        return f"{kind} numbers as they are"
    what = "pixels" if scale == PIXEL and has_pictures(task.shape) else "numbers"
    return f"{kind} {what} / {scale:g}"


def describe_target(dataset: Dataset) -> str:
    """What is predicted: ``one of 10 classes``; and by what rows count."""
    count = dataset.task.classes
    words = {
        "class": f"one of {count:,} classes",
        "positions": f"one of {count:,} classes at each position",
        "several": f"which of {count:,} classes",
        "sequence": f"a sequence of {count - 1:,} symbols",
        "number": "a number" if count == 1 else f"{count:,} numbers",
    }[dataset.task.predicts]
    meant = {"lengths": "up to the length of each row", "weights": "rows by weights"}
    return ", ".join([words, *(meant[n] for n in meant if n in dataset.train)])
