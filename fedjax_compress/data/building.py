"""From columns as they are stored, and what is said of them, to a ``Dataset``."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from fedjax_compress.data.columns import as_features, as_labels, number_of_classes
from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.data.ids import check_ids, number_clients
from fedjax_compress.data.scaling import Scale, divisor
from fedjax_compress.data.values import check_finite, pieces
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Columns, Target, Task

TargetOption = Literal["auto", "class", "positions", "several", "number", "sequence"]
"""What labels hold; ``auto`` for the rule of ``target_of``."""
Names = tuple[str, ...]
_OWN = ("features", "labels", "lengths", "label_lengths", "weights")
_LENGTHS = {"lengths": "length", "label_lengths": "label length"}


class Rows(NamedTuple):
    """One part as it is stored.

    Attributes:
      where: what a message calls it.
      features, labels: [rows, ...].
      ids: client ids of any kind, [rows], or None.
      more: further columns by name.
    """

    where: str
    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray | None
    more: Columns

    def taken(self, which: np.ndarray) -> Rows:
        """Those that a mask [rows] marks."""
        ids = None if self.ids is None else self.ids[which]
        more = {name: column[which] for name, column in self.more.items()}
        return Rows(self.where, self.features[which], self.labels[which], ids, more)


class Said(NamedTuple):
    """What the options of a source say of its columns; their defaults say nothing."""

    target: TargetOption = "auto"
    classes: int = 0
    tokens: bool = False
    scale: Scale = "auto"


def further(
    lengths: str, label_lengths: str, weights: str, inputs: str | Names
) -> dict[str, str]:
    """Columns beside features and labels: name -> what the source calls it.

    Args:
      lengths, label_lengths, weights: what the source calls them; empty for none.
      inputs: names, which stay as they are; each may hold several with commas.

    Raises:
      InputError: an input named like a column that has a meaning of its own.
    """
    found = {"lengths": lengths, "label_lengths": label_lengths, "weights": weights}
    for name in listed(inputs):
        if name in _OWN:
            raise InputError(
                f"inputs: {name!r} is the name of a column with a meaning of its own; "
                "give the array another"
            )
        found[name] = name
    return {name: stored for name, stored in found.items() if stored}


def listed(names: str | Names) -> list[str]:
    """Names that are given as a list, or in one text with commas."""
    given = (names,) if isinstance(names, str) else names
    return [part.strip() for text in given for part in text.split(",") if part.strip()]


def target_of(said: Said, where: str, *labels: np.ndarray) -> Target:
    """What labels hold, as it is said or as they look; a sequence has to be said.

    Labels of tokens are one for each position; whole numbers are classes, one a row,
    or, with two axes or more besides the rows, one for each position; all else are
    numbers.

    Raises:
      InputError: whole numbers in columns, which may be anything.
    """
    if said.target != "auto":
        return said.target
    if said.tokens:
        return "positions"
    if not all(map(_is_whole, labels)):
        return "number"
    if labels[0].ndim == 2:
        raise InputError(
            f"{where}: labels have shape {labels[0].shape}; say what they are: "
            "target=several for 0 or 1 for each class, positions for a class at each "
            "position, sequence for symbols in order, or number"
        )
    return "class" if labels[0].ndim < 2 else "positions"


def _is_whole(labels: np.ndarray) -> bool:
    """Whether all are whole numbers; also what is no number, and refused elsewhere."""
    if labels.dtype.kind != "f":
        return True
    return all(bool((part == np.round(part)).all()) for _, part in pieces(labels))


def groups_of(kind: Target, rows: Rows) -> np.ndarray:
    """[rows]: of each of which a share is held out: a client, a class, or all rows.

    Raises:
      InputError: ids, or classes, that cannot be used.
    """
    if rows.ids is not None:
        check_ids(rows.ids, rows.where)
        return rows.ids
    if kind == "class" and rows.labels.ndim == 1:
        return as_labels(rows.labels, rows.where)
    return np.zeros(len(rows.labels), np.int32)


def as_targets(kind: Target, rows: Rows) -> np.ndarray:
    """Labels as they are kept: numbers as float32, all else as int32.

    For positions, a last axis of one that the features do not have is left out, as of
    masks that are stored like pictures; int32 is not copied.

    Raises:
      InputError: no numbers, or not whole where they must be, or a sequence that is no
        row of symbols.
    """
    labels, where = rows.labels, rows.where
    if kind == "number":
        if labels.dtype.kind not in "biuf":
            raise InputError(f"{where}: labels must be numbers, not {labels.dtype}")
        return _as_float(labels, where, "labels")
    if kind == "positions":
        *inner, last = labels.shape[1:] or (0,)
        if (
            inner
            and last == 1
            and tuple(inner) == rows.features.shape[1 : labels.ndim - 1]
        ):
            labels = labels[..., 0]
        if labels.dtype == np.int32:
            return labels
    if kind == "sequence" and labels.ndim != 2:
        raise InputError(
            f"{where}: labels of a sequence must have shape [rows, symbols], not "
            f"{labels.shape}"
        )
    return as_labels(labels, where)


def as_column(name: str, rows: Rows) -> np.ndarray:
    """A further column: float32, or integers of at most 32 bits.

    Raises:
      InputError: no numbers, or some that do not fit.
    """
    column = rows.more[name]
    if column.dtype.kind not in "biuf":
        raise InputError(f"{rows.where}: {name} must be numbers, not {column.dtype}")
    if name in _LENGTHS:
        return as_labels(column, rows.where, _LENGTHS[name])
    if column.dtype.kind == "f" or name == "weights":
        return _as_float(column, rows.where, name)
    if column.dtype.itemsize <= 4 and column.dtype != np.uint32:
        return column
    if column.min() < -(2**31) or column.max() >= 2**31:
        raise InputError(f"{rows.where}: {name} must fit 32 bits")
    return column.astype(np.int32)


def _as_float(column: np.ndarray, where: str, name: str) -> np.ndarray:
    if column.dtype.itemsize > 4:
        check_finite(where, column, name)
    return column.astype(np.float32, copy=False)


def number_of_targets(kind: Target, classes: int, *labels: np.ndarray) -> int:
    """How many classes there are, or numbers a row; no symbol is a class of a sequence.

    Raises:
      InputError: another number is said than labels have columns; see
        ``columns.number_of_classes``.
    """
    if kind in ("class", "positions", "sequence"):
        return number_of_classes(classes, *labels)
    found = labels[0].shape[1] if labels[0].ndim > 1 else 1
    if classes not in (0, found):
        what = "numbers" if kind == "number" else "classes"
        raise InputError(f"classes is {classes}, but labels hold {found} {what} a row")
    return int(found)


def built(name: str, kind: Target, said: Said, train: Rows, test: Rows) -> Dataset:
    """The data of two parts.

    Args:
      name: of the data.
      kind: what labels hold.
      said: what is said of the columns.
      train, test: as they are stored.

    Raises:
      InputError: rows that cannot be used; see ``data.check``.
    """
    parts, tokens = (train, test), said.tokens
    sequence = kind == "sequence"  # of frames, which are no pictures
    x = [
        as_features(part.features, part.where, tokens, pictures=not sequence)
        for part in parts
    ]
    if not sequence and "label_lengths" in train.more:
        raise InputError(
            f"{name}: label_lengths are those of a sequence; say target=sequence, or "
            "leave label_lengths out"
        )
    divided = (
        None if tokens else divisor(said.scale, train.features, test.features, name)
    )
    ids, test_ids = train.ids, None
    if ids is not None:
        ids, test_ids = number_clients(ids, test.ids, name)
    y = [as_targets(kind, part) for part in parts]
    count = number_of_targets(kind, said.classes, *y)
    usual = kind == ("positions" if tokens else "class")
    task = Task(
        x[0].shape[1:],
        count,
        tokens,
        divided,
        None if usual else kind,
        longest=y[0].shape[1] if sequence else 0,
    )
    columns = [
        {"features": features, "labels": labels}
        | {name: as_column(name, part) for name in part.more}
        for features, labels, part in zip(x, y, parts, strict=True)
    ]
    return check(Dataset(name, task, columns[0], ids, columns[1], test_ids))
