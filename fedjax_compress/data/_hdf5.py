"""HDF5 files: arrays of one's own, and those of TensorFlow Federated."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import Names, Said, TargetOption, further, listed
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.parts import name_of
from fedjax_compress.data.scaling import Scale
from fedjax_compress.data.split import test_marks
from fedjax_compress.data.stores.found import (
    FEATURES,
    LABELS,
    Found,
    How,
    Used,
    chosen,
    fitting,
    like,
    of_store,
    together,
)
from fedjax_compress.data.stores.hdf5 import (
    array,
    clients,
    is_by_client,
    names_of,
    opened,
)
from fedjax_compress.data.stores.made import made
from fedjax_compress.errors import InputError


@registry.register("data")
def hdf5(
    path: str,
    features: Names = (),
    labels: Names = (),
    client: str = "",
    test: str = "",
    test_features: Names = (),
    test_labels: Names = (),
    test_column: str = "",
    same_clients: bool = True,
    holdout: float = 0.1,
    shape: tuple[int, ...] = (),
    length: int = 80,
    classes: int = 0,
    tokens: bool = False,
    invert: bool = False,
    scale: Scale = "auto",
    target: TargetOption = "auto",
    lengths: str = "",
    label_lengths: str = "",
    weights: str = "",
    inputs: Names = (),
) -> Dataset:
    """HDF5 files: your own arrays at any depth, and TensorFlow Federated's by client.

    Your own arrays are named by their paths in the file, as in ``train/images``, and
    have a row for each example. TensorFlow Federated's files have a group ``examples``
    with a group for each client, and in that an array for each feature; clients may
    have any number of rows. Needs h5py: ``pip install 'fedjax_compress[hdf5]'``.

    Texts without labels, as Shakespeare's ``snippets``, are sequences of characters
    whose label is the next one, as ``text`` makes them; texts with labels are rows of
    their first characters. Labels that are texts are classes, in sorted order, or,
    where all are whole numbers, those numbers.

    Args:
      path: the file.
      features: arrays to learn from, [rows, ...]. Empty takes pixels, image, images, x,
        features or snippets, whichever there is. Several of one number a row go
        together.
      labels: array, or arrays, to predict; empty takes label, labels, y or
        coarse_label.
      client: of your own arrays, that of client ids (numbers or names, in any order);
        empty if there is none.
      test: a second file with the test rows; of your own arrays, it may lack the ids.
      test_features: arrays of features to test on, in the second file or, without one,
        in the same; empty for the same paths as to learn from.
      test_labels: likewise.
      test_column: of your own arrays, one that is true, or 1, for test rows and false,
        or 0, for the others.
      same_clients: whether an id is that of the same client in both parts; false for
        TensorFlow Federated's CIFAR-100, whose test clients are others.
      holdout: share held out where there is no test part: of every client, or else of
        every class; of texts the last ones of every client.
      shape: of one example's features; empty for how they are stored.
      length: characters in a sequence, where features are texts.
      classes: number of classes, or of numbers that are predicted; 0 takes one more
        than the largest label, or what labels have in a row.
      tokens: whether features are integer tokens, 0 being the padding.
      invert: 255 - x for uint8 pixels, 1 - x for floats in 0..1, as for the black ink
        on white paper of federated EMNIST.
      scale: what divides the features before a network reads them: a number, none, or
        auto: 255 for pictures of whole numbers up to 255, which are pixels, else none.
      target: what labels hold: class, positions, several, number, sequence or auto, as
        for npz.
      lengths: array that says how many positions, or frames, of a row are real.
      label_lengths: array that says how many symbols of a sequence are real.
      weights: array that says what each row counts for.
      inputs: further arrays that a model of your own reads.

    Raises:
      InputError: no h5py, missing file or array, or rows that cannot be used; see
        ``check``.

    Reference: TensorFlow Federated, ``HDF5ClientData``.
    """
    if test and test_column:
        raise InputError("give test or test_column, not both")
    apart = bool(listed(test_features) or listed(test_labels))
    said = Said(target, classes, tokens, scale)
    more = further(lengths, label_lengths, weights, inputs)
    how = How(
        features, labels, more, said, holdout, shape, length, invert, same_clients
    )
    with opened(path) as whole:
        first = _part(whole, path, client, test_column, how)
        second = None
        if apart and not test:
            _check_apart(whole, first, test_features, test_labels, test_column, how)
            asked = how._replace(features=test_features, label=test_labels)
            second = _part(whole, path, "", "", asked)
    if test:
        asked = like(how, first)
        asked = asked._replace(
            features=test_features or asked.features, label=test_labels or asked.label
        )
        with opened(test) as whole:
            second = _part(whole, test, client if client in whole else "", "", asked)
    return made(name_of(path), first, second, how)


def _part(whole: Any, path: str, client: str, marks: str, how: How) -> Found:
    """The rows of a file.

    Raises:
      InputError: no such array, or rows that cannot be used.
    """
    where = name_of(path)
    if _is_by_client(whole, how):
        if client or marks:
            raise InputError(
                f"{path} says by itself whose a row is; client and test_column are for "
                "arrays of your own"
            )
        return of_store(clients(whole, where), how)
    top = [name for name in whole if hasattr(whole[name], "dtype")]
    names = names_of(whole)
    x = listed(how.features) or [name for name in FEATURES if name in top][:1]
    x = x or chosen((), names, (), "features", where)
    y = [name for name in LABELS if name in top and name not in x][:1]
    y = listed(how.label) or y
    marked = array(whole, marks, where) if marks else None
    return fitting(
        how,
        where,
        together([array(whole, name, where) for name in x], where),
        together([array(whole, name, where) for name in y], where) if y else None,
        _plain(array(whole, client, where)) if client else None,
        {name: array(whole, stored, where) for name, stored in how.more.items()},
        Used(tuple(x), tuple(y)),
        names,
        None if marked is None else test_marks(_plain(marked), where, marks),
    )


def _is_by_client(whole: Any, how: How) -> bool:
    """Whether rows stand client by client, and no array is named by its path."""
    named = any(hasattr(whole.get(name), "dtype") for name in listed(how.features))
    return is_by_client(whole) and not named


def _check_apart(
    whole: Any,
    first: Found,
    test_features: Names,
    test_labels: Names,
    test_column: str,
    how: How,
) -> None:
    """Raises InputError unless the same file can hold test rows under other paths."""
    if _is_by_client(whole, how):
        raise InputError(
            f"{first.where}: test_features and test_labels are for arrays of your own; "
            "rows by client have their test rows in a second file (test) or held out"
        )
    if test_column:
        raise InputError("give test_features or test_column, not both")
    if not listed(test_features) or (
        first.labels is not None and not listed(test_labels)
    ):
        raise InputError(
            "test rows in the same file need both test_features and test_labels"
        )
    if how.more:
        raise InputError(
            f"{', '.join(how.more)}: of test rows in the same file there is only what "
            "test_features and test_labels name; put test rows into a second file, or "
            "mark them with test_column"
        )


def _plain(column: np.ndarray) -> np.ndarray:
    """Texts as numpy's own type."""
    return column.astype(str) if column.dtype == object else column
