"""What stands in columns, checked piece by piece: no column is copied as a whole."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedjax_compress.checks.returned import describe
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Columns, Task


def pieces(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The array in stretches of about four million elements, not copied.

    What is computed from them never needs memory for a whole memory-mapped column.

    Yields:
      number of the first row, rows [some, ...].
    """
    step = max(1, 2**22 // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def expect(array: np.ndarray, scattered: bool) -> None:
    """Tells the system how rows of a memory-mapped array will be read, else nothing.

    Where rows of a few kilobytes are read here and there, reading ahead costs far more
    than the rows: 2,000 rows of 4 kB of a file of 4 GB took 8.8 s, and 0.02 s without.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        with contextlib.suppress(OSError):  # a hint only
            base.madvise(mmap.MADV_RANDOM if scattered else mmap.MADV_NORMAL)


def check_finite(where: str, features: np.ndarray, name: str = "features") -> None:
    """Raises InputError that names the first row with a NaN, an infinity or a number
    that is too large for float32."""
    if not np.issubdtype(features.dtype, np.inexact):
        return
    bad = 0
    first: tuple[int, Any] | None = None
    for start, part in pieces(features):
        rows = part.reshape(len(part), -1)
        wrong = ~np.isfinite(rows)
        if features.dtype.itemsize > 4:
            wrong |= np.abs(rows) > np.finfo(np.float32).max
        hit = wrong.any(axis=1)
        bad += int(hit.sum())
        if first is None and hit.any():
            row = int(hit.argmax())
            first = start + row, rows[row, int(wrong[row].argmax())]
    if first is not None:
        row, value = first
        why = "too large for float32" if np.isfinite(value) else "not finite"
        raise InputError(
            f"{where}: {bad} rows have {name} that are {why}, "
            f"first row {row} ({value}); mend or leave out these rows"
        )


def check_labels(
    where: str, labels: np.ndarray, classes: int, what: str = "label"
) -> None:
    """Raises InputError that names the first label outside 0 .. classes-1."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{where}: {what}s must be integers, not {labels.dtype}")
    bad = 0
    first: tuple[int, object] | None = None
    for start, part in pieces(labels):
        if int(part.min()) >= 0 and int(part.max()) < classes:
            continue
        wrong = (part < 0) | (part >= classes)
        bad += int(wrong.sum())
        if first is None:
            spot = np.unravel_index(int(wrong.argmax()), part.shape)
            first = start + int(spot[0]), part[spot]
    if first is not None:
        raise InputError(
            f"{where}: {what} {first[1]} in row {first[0]} lies outside "
            f"0..{classes - 1} ({bad} such {what}s)"
        )


def check_targets(where: str, labels: np.ndarray, task: Task) -> None:
    """Raises InputError unless the labels are what the task predicts."""
    kind, rows = task.predicts, labels.shape[:1]
    if kind == "number":
        shapes: tuple = ((*rows, task.classes),)
        if task.classes == 1:
            shapes = (rows, *shapes)
        if labels.shape not in shapes:
            raise InputError(
                f"{where}: labels have shape {labels.shape}, expected {shapes[0]}"
            )
        return
    if kind == "sequence" and task.longest < 1:
        raise InputError(
            f"{where}: a sequence needs task.longest, the symbols of a row, of at "
            f"least 1, not {task.longest}"
        )
    wanted = {
        "class": rows,
        "several": (*rows, task.classes),
        "sequence": (*rows, task.longest),
    }
    if kind == "positions":
        whole = labels.ndim > 1 and labels.shape[1:] == task.shape[: labels.ndim - 1]
        wanted["positions"] = labels.shape if whole else (*rows, *task.shape)
    if labels.shape != wanted[kind]:
        raise InputError(
            f"{where}: labels have shape {labels.shape}, expected {wanted[kind]}"
        )
    check_labels(where, labels, 2 if kind == "several" else task.classes)


def check_counting(where: str, columns: Columns, task: Task) -> None:
    """Checks what rows count for, where columns say so.

    Raises:
      InputError: ``lengths`` that are not whole numbers, one a row, or more than there
        are positions; ``weights`` that are negative, or all zero; a sequence without
        frames, without ``label_lengths``, or whose symbols do not fit these.
    """
    rows = (len(columns["features"]),)
    sequence = task.predicts == "sequence"
    if sequence and "label_lengths" not in columns:
        raise InputError(
            f"{where}: a sequence needs the column label_lengths, the number of "
            "symbols in each row of labels"
        )
    names = {"lengths", "weights", *(["label_lengths"] * sequence)}
    for name in sorted(names & set(columns)):
        if columns[name].shape != rows:
            raise InputError(
                f"{where}: {name} must be one number a row, {list(rows)}, not "
                f"{describe(columns[name])}"
            )
    if "lengths" in columns:
        several = task.predicts == "positions"
        counted = columns["labels"].shape[1:] if several else task.shape
        longest = counted[0] if counted else 0
        check_labels(where, columns["lengths"], longest + 1, "length")
        if sequence and not columns["lengths"].min():
            raise InputError(
                f"{where}: row {int(columns['lengths'].argmin())} has length 0, but a "
                "sequence needs at least one frame; leave the row out"
            )
    if sequence:
        check_symbols(where, columns["labels"], columns["label_lengths"], task)
    if "weights" in columns:
        weights = columns["weights"]
        if weights.min() < 0:
            row = int(weights.argmin())
            raise InputError(
                f"{where}: weights must not be negative, as in row {row} "
                f"({weights[row]:g})"
            )
        if not weights.max() > 0:
            raise InputError(f"{where}: all weights are 0, so that no row counts")


def check_symbols(
    where: str, labels: np.ndarray, lengths: np.ndarray, task: Task
) -> None:
    """Checks rows of symbols, each followed by zeros.

    Args:
      where: what a message calls the rows.
      labels: [rows, task.longest], in 0 .. classes-1.
      lengths: [rows], how many symbols each row has.
      task: of which labels are a sequence.

    Raises:
      InputError: that names the first row with a length outside 0 .. longest, a 0
        among its symbols, or anything but zeros after them; names of symbols that are
        not as many as the classes.
    """
    if task.symbols and len(task.symbols) != task.classes:
        raise InputError(
            f"{where}: the task names {len(task.symbols)} symbols, but has "
            f"{task.classes} classes; the first name is that of no symbol"
        )
    check_labels(where, lengths, task.longest + 1, "label length")
    for start, part in pieces(labels):
        count = lengths[start : start + len(part), None]
        wrong = (part != 0) != (np.arange(task.longest) < count)
        if not wrong.any():
            continue
        row, spot = np.unravel_index(int(wrong.argmax()), wrong.shape)
        found, of = part[row, spot], int(count[row, 0])
        why = (
            f"symbol {found} after its {of} symbols, where labels must be 0"
            if found
            else f"a 0 among its {of} symbols, which must be 1..{task.classes - 1}"
        )
        raise InputError(f"{where}: row {start + int(row)} has {why}")
