"""A user's own arrays in an ``.npz`` file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import (
    Names,
    Rows,
    Said,
    TargetOption,
    built,
    further,
    target_of,
)
from fedjax_compress.data.columns import (
    check_columns,
    check_features,
    has_array,
    load_npz,
)
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.parts import in_two, inverted, name_of
from fedjax_compress.data.scaling import Scale
from fedjax_compress.data.split import test_marks
from fedjax_compress.errors import InputError


@registry.register("data")
def npz(
    path: str,
    features: str = "images",
    labels: str = "labels",
    client: str = "",
    test: str = "",
    test_column: str = "",
    holdout: float = 0.1,
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
    """Your own arrays in an .npz file, with or without a column of client ids.

    The test part is a second file (``test``) with the same arrays, or the rows marked
    in a boolean array (``test_column``), or else a held-out share: the same share of
    every client where ids are given, of every class otherwise, the same rows in every
    run. uint8 pixels stay uint8; images without an axis of channels get one.

    Args:
      path: the file with the training rows.
      features: name of the array of features, [rows, ...].
      labels: name of the array of labels; what they hold says ``target``.
      client: name of the array of client ids (numbers or names, in any order); empty
        if there is none. Needed for the partition ``natural``.
      test: file with the test rows; it may lack the ids.
      test_column: name of an array that is true, or 1, for test rows and false, or 0,
        for the others.
      holdout: share held out where neither is given; between 0 and 1.
      classes: number of classes, or of numbers that are predicted; 0 takes one more
        than the largest label, or what labels have in a row.
      tokens: whether features are integer tokens (text), 0 being the padding.
      invert: 255 - x for uint8 pixels, as for LEAF's black ink on white paper.
      scale: what divides the features before a network reads them: a number, none, or
        auto: 255 for pictures of whole numbers up to 255, which are pixels, else none.
      target: what labels hold. class: whole numbers 0, 1, ..., [rows]; positions: one
        for each token or pixel, [rows, length] or [rows, height, width]; several: 0 or
        1 for each class, [rows, classes]; number: [rows], or some in a row, [rows,
        numbers]; sequence: symbols 1, 2, ... in order, then zeros, [rows, longest].
        auto: positions for tokens and pictures of whole numbers, class for whole
        numbers, number for others; several and sequence have to be said.
      lengths: name of an array that says how many positions, or frames, of a row are
        real.
      label_lengths: name of an array that says how many symbols of a sequence are real.
      weights: name of an array that says what each row counts for.
      inputs: names of further arrays that a model of your own reads.

    Raises:
      InputError: missing file or array, or rows that cannot be used; see ``check``.
    """
    if test and test_column:
        raise InputError("give test or test_column, not both")
    said = Said(target, classes, tokens, scale)
    more = further(lengths, label_lengths, weights, inputs)
    names = _Names(features, labels, client, test_column, more)
    name = name_of(path)
    first = _read(path, names, tokens, needed=True)
    if test:
        second = _read(test, names, tokens, needed=False).rows
        kind = target_of(said, name, first.rows.labels, second.labels)
        parts = first.rows, second
    else:
        kind = target_of(said, name, first.rows.labels)
        parts = in_two(first.rows, first.marks, kind, holdout)
    if invert:
        parts = inverted(parts[0]), inverted(parts[1])
    return built(name, kind, said, *parts)


class _Names(NamedTuple):
    """Names of the arrays; empty for one that there is not."""

    features: str
    labels: str
    client: str
    marks: str
    more: dict[str, str]


class _File(NamedTuple):
    """The rows of a file, and which of them are marked for testing, if that is said."""

    rows: Rows
    marks: np.ndarray | None


def _read(path: str, names: _Names, tokens: bool, needed: bool) -> _File:
    """The rows of a file; ids may be missing unless they are ``needed``.

    Raises:
      InputError: missing file or array, columns that do not fit each other.
    """
    where = name_of(path)
    client = names.client if needed or has_array(path, names.client) else ""
    wanted = [names.features, names.labels, *names.more.values()]
    others = [n for n in (client, names.marks) if n]
    loaded = load_npz(path, wanted + others)
    x, y, *columns = loaded[: len(wanted)]
    rest = loaded[len(wanted) :]
    more = dict(zip(names.more, columns, strict=True))
    check_columns(where, x, y, rest, more)
    check_features(x, where, tokens)
    marks = test_marks(rest[-1], where, names.marks) if names.marks else None
    return _File(Rows(where, x, y, rest[0] if client else None, more), marks)
