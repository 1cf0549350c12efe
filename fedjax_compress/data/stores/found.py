"""Columns of numbers and texts as they are found, before anything is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import Names, Said, listed
from fedjax_compress.data.columns import check_columns, check_features, shown
from fedjax_compress.data.stores.store import PICTURES, Store, gathered, square
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Columns

FEATURES = (*PICTURES, "x", "features", "snippets")
LABELS = ("label", "labels", "y", "coarse_label")
"""What features and labels are called where it is not said; the first counts."""


class How(NamedTuple):
    """What the options of a source say, beside where its rows are.

    Attributes:
      features, label: names of columns; empty for the usual ones.
      more: further columns: name -> what the source calls it.
      said: of the columns.
      holdout: share held out where there is no test part.
      shape: of one example's features; empty for that in which they are stored.
      length: symbols in a sequence, where features are texts.
      invert: whether white becomes black.
      same_clients: whether an id is that of the same client in both parts.
    """

    features: Names
    label: Names
    more: dict[str, str]
    said: Said
    holdout: float
    shape: tuple[int, ...]
    length: int
    invert: bool
    same_clients: bool


class Used(NamedTuple):
    """Names of the columns that features and labels are."""

    features: tuple[str, ...]
    label: tuple[str, ...]


class Found(NamedTuple):
    """One part.

    Attributes:
      where: what a message calls it.
      features: [rows, ...]; of texts an array of objects, [rows].
      labels: [rows, ...], or None where features are texts and nothing is their label.
      ids: client ids of any kind, [rows], or None.
      more: further columns by name.
      used: names of the columns that features and labels are.
      marks: bool [rows], true for a test row; None where nothing says which.
    """

    where: str
    features: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray | None
    more: Columns
    used: Used
    marks: np.ndarray | None = None

    @property
    def is_text(self) -> bool:
        """Whether features are texts."""
        return self.features.dtype == object


def like(how: How, first: Found) -> How:
    """For the test part: the columns that were found in the rows to train on."""
    return how._replace(features=first.used.features, label=first.used.label)


def of_store(store: Store, how: How) -> Found:
    """The rows of a store.

    Raises:
      InputError: no such column, or rows that cannot be used.
    """
    where, names = store.where, store.names
    x = chosen(listed(how.features), names, FEATURES, "features", where)
    usual = [name for name in LABELS if name not in x]
    y = chosen(listed(how.label), names, usual, "label", where, needed=False)
    check_names(list(how.more.values()), names, where)
    wanted = list(dict.fromkeys([*x, *y, *how.more.values()]))
    ids, columns = gathered(store, wanted)
    features = together([columns[name] for name in x], where)
    if store.flat and not how.shape and features.ndim == 2 and len(x) == 1:
        shape = square(x[0], features.shape[1]) or features.shape[1:]
        features = features.reshape(len(features), *shape)
    return fitting(
        how,
        where,
        features,
        together([columns[name] for name in y], where) if y else None,
        ids,
        {name: columns[stored] for name, stored in how.more.items()},
        Used(tuple(x), tuple(y)),
        names,
    )


def check_names(given: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raises InputError for a name that no column has."""
    for name in given:
        if name not in names:
            hint = registry.nearest(name, list(names))
            raise InputError(f"{where} has no {name!r}; {hint}")


def chosen(
    given: Sequence[str],
    names: Sequence[str],
    usual: Sequence[str],
    option: str,
    where: str,
    needed: bool = True,
) -> list[str]:
    """The columns that are asked for, or else the first one with a usual name.

    Args:
      given: their names; empty if nothing is said.
      names: of all columns.
      usual: names to look for, in this order.
      option: what is to be said.
      where: what a message calls the data.
      needed: whether there has to be one.

    Raises:
      InputError: none of that name, or none of a usual one.
    """
    check_names(given, names, where)
    found = list(given) or [name for name in usual if name in names][:1]
    if needed and not found:
        raise InputError(f"{where}: say {option}=NAME; there are {shown(names)}")
    return found


def together(columns: Sequence[np.ndarray], where: str) -> np.ndarray:
    """One column as it is, or several, of one number a row, side by side.

    Raises:
      InputError: several that are not numbers, one a row.
    """
    if len(columns) == 1:
        return columns[0]
    if any(column.ndim != 1 or column.dtype.kind not in "biuf" for column in columns):
        raise InputError(
            f"{where}: several columns go together only where each has one number a row"
        )
    return np.stack(columns, axis=1)


def fitting(
    how: How,
    where: str,
    features: np.ndarray,
    labels: np.ndarray | None,
    ids: np.ndarray | None,
    more: Columns,
    used: Used,
    names: Sequence[str],
    marks: np.ndarray | None = None,
) -> Found:
    """Columns that fit each other; a single number a row is one feature.

    Args:
      how: see ``How``.
      where, features, labels, ids, more, used, marks: see ``Found``.
      names: of all columns there are.

    Raises:
      InputError: columns that do not fit, no labels of numbers, or another shape than
        is said.
    """
    found = Found(where, features, labels, ids, more, used, marks)
    if labels is None and not found.is_text:
        chosen((), names, (), "label", where)
    others = [column for column in (ids, marks) if column is not None]
    check_columns(where, features, features if labels is None else labels, others, more)
    if found.is_text:
        return found
    if features.ndim == 1:
        features = features[:, None]
    if how.shape:
        features = _shaped(features, how.shape, where)
    check_features(features, where, how.said.tokens)
    return found._replace(features=features)


def _shaped(features: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    size = int(np.prod(features.shape[1:]))
    if min(shape) < 1 or np.prod(shape) != size:
        raise InputError(f"{where}: a row has {size} features, which are not {shape}")
    return features.reshape(len(features), *shape)
