"""Which rows are held out for testing, the same in every run."""

from __future__ import annotations

import numpy as np

from fedjax_compress.errors import InputError

_STREAM = 0x48454C44


def hold_out(groups: np.ndarray, share: float, least: int = 0) -> np.ndarray:
    """Marks a share of the rows, the same share in every group.

    The choice depends on the groups and the share alone: never on the run's seed,
    so that runs with different seeds are tested on the same rows. The number marked
    is ceil(share * rows), dealt to the groups by largest remainder; a group never
    loses its last row.

    Args:
      groups: int [rows], class or client of each row.
      share: in (0, 1).
      least: fewest rows marked in a group that has more than that many.

    Returns:
      bool [rows], True for a test row.
    """
    if not 0 < share < 1:
        raise InputError(f"the held-out share must lie between 0 and 1, not {share}")
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    wanted = share * counts
    quota = np.floor(wanted).astype(np.int64)
    missing = int(np.ceil(share * len(groups) - 1e-9)) - int(quota.sum())
    quota[np.argsort(quota - wanted, kind="stable")[:missing]] += 1
    quota = np.minimum(np.maximum(quota, least), counts - 1)
    keys = np.random.Philox(key=_STREAM).random_raw(len(groups))
    order = np.lexsort((keys, index))
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(groups)) - starts[index[order]]
    marked = np.zeros(len(groups), bool)
    marked[order] = rank < quota[index[order]]
    return marked


def test_marks(column: np.ndarray, where: str, name: str) -> np.ndarray:
    """Which rows a column marks for testing, bool [rows].

    Raises:
      InputError: anything but true and false, or 1 and 0; names what else was found.
    """
    right = "true (or 1) for a test row, false (or 0) for another"
    if column.dtype.kind not in "biuf":
        shown = ", ".join(repr(str(v)) for v in np.unique(column)[:4])
        raise InputError(
            f"{where}: {name!r} holds {column.dtype} ({shown}), but must be {right}; "
            f"save it as the comparison {name} == ..."
        )
    other = np.unique(column[~((column == 0) | (column == 1))])
    if len(other):
        shown = ", ".join(f"{v:g}" for v in other[:4])
        many = " ..." * (len(other) > 4)
        raise InputError(f"{where}: {name!r} holds {shown}{many}, but must be {right}")
    return column.astype(bool)
