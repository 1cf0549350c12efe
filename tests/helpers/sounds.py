"""A small task of frames and symbols, and rows of it."""

from __future__ import annotations

import numpy as np

from fedjax_compress.typing import Task

_MORE = (("label_lengths", (), "int32"), ("lengths", (), "int32"))


def sounds(frames=12, bins=6, classes=4, longest=3):
    """A task of so many frames, bins, symbols with the blank, and labels at most."""
    return Task(
        (frames, bins),
        classes,
        target="sequence",
        longest=longest,
        more=_MORE,
        symbols=("", *(str(i) for i in range(classes - 1))),
    )


SOUNDS = sounds()


def heard(task=SOUNDS, rows=3, seed=0):
    """Columns of rows of random lengths, the first of which is full; zeros behind."""
    rng = np.random.default_rng(seed)
    frames, longest = task.shape[0], task.longest
    lengths = rng.integers(1, frames + 1, rows).astype(np.int32)
    number = rng.integers(0, longest + 1, rows).astype(np.int32)
    lengths[0], number[0] = frames, longest
    features = rng.normal(size=(rows, *task.shape)).astype(np.float32)
    features[np.arange(frames)[None] >= lengths[:, None]] = 0
    labels = rng.integers(1, task.classes, (rows, longest)).astype(np.int32)
    labels[np.arange(longest)[None] >= number[:, None]] = 0
    return {
        "features": features,
        "labels": labels,
        "label_lengths": number,
        "lengths": lengths,
    }


def scored(outputs):
    """What of a model's outputs is compared: of a transducer, the log-probabilities at
    the nodes, since it also gives what decoding needs."""
    return (outputs.blank, outputs.label) if hasattr(outputs, "blank") else outputs
