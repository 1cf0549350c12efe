"""The rows to learn from and those to test on, of rows that came together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedjax_compress.data.building import Rows, groups_of
from fedjax_compress.data.split import hold_out
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Target


def in_two(
    rows: Rows, marks: np.ndarray | None, kind: Target, holdout: float
) -> tuple[Rows, Rows]:
    """The rows to learn from, and those to test on.

    Args:
      rows: all of them.
      marks: bool [rows], true for a test row; None: ``holdout`` says which.
      kind: what labels hold.
      holdout: the share held out: of every client where there are ids, else of every
        class, or of all rows where labels are no classes.

    Raises:
      InputError: no row can be held out.
    """
    if marks is None:
        marks = hold_out(groups_of(kind, rows), holdout)
        if not marks.any():
            raise InputError(
                f"{rows.where}: no row can be held out for testing: a class, or a "
                "client where there are ids, keeps its last row; name a file or a "
                "column of test rows with test or test_column"
            )
    return rows.taken(~marks), rows.taken(marks)


def name_of(path: str) -> str:
    """What data are called: folder and file without ending: ``mnist/train``."""
    whole = Path(path)
    return "/".join((*whole.parts[:-1], whole.stem)[-2:])


def inverted(rows: Rows, floats: bool = False) -> Rows:
    """White for black: 255 - x for uint8, and, where it is said, 1 - x for 0..1.

    Raises:
      InputError: other features.
    """
    x, right = rows.features, "uint8 pixels"
    if x.dtype == np.uint8:
        return rows._replace(features=255 - x)
    found = str(x.dtype)
    if floats:
        if x.dtype.kind == "f" and x.min() >= 0 and x.max() <= 1:
            return rows._replace(features=1 - x)
        right += " and floats in 0..1"
        found += f" in {x.min():g}..{x.max():g}"
    raise InputError(f"{rows.where}: only {right} can be inverted, not {found}")
