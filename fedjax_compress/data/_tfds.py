"""Sets prepared by tensorflow-datasets, read without TensorFlow."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import (
    Names,
    Rows,
    Said,
    TargetOption,
    built,
    further,
    groups_of,
    target_of,
)
from fedjax_compress.data.columns import check_features
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.scaling import Scale
from fedjax_compress.data.split import hold_out
from fedjax_compress.errors import InputError


@registry.register("data")
def tfds(
    name: str,
    features: str = "",
    label: str = "",
    client: str = "",
    train: str = "train",
    test: str = "test",
    holdout: float = 0.1,
    data_dir: str = "",
    scale: Scale = "auto",
    target: TargetOption = "auto",
    lengths: str = "",
    label_lengths: str = "",
    weights: str = "",
    inputs: Names = (),
) -> Dataset:
    """Any prepared tensorflow-datasets set, read without TensorFlow.

    The set must have been prepared in a format with random access; the error that
    comes up otherwise gives the command. Reading goes through ``as_data_source``.

    Args:
      name: name of the set, as in ``mnist``, ``mnist:3.0.1``, ``emnist/byclass``.
      features: the feature to learn from; empty takes the first of the set's
        supervised pair, or else its only image.
      label: the feature to predict; empty takes the second of the supervised pair, or
        else its only class label.
      client: the feature that says whose an example is; empty if there is none.
      train: split to train on; ``train[:80%]`` works too.
      test: split to test on; empty, or one that the set does not have, holds out a
        share of the training split: of every client, or else of every class.
      holdout: that share.
      data_dir: folder of prepared sets; empty for the library's own default.
      scale: what divides the features before a network reads them: a number, none, or
        auto: 255 for pictures of whole numbers up to 255, which are pixels, else none.
      target: what labels hold: class, positions, several, number, sequence or auto, as
        for npz.
      lengths: feature that says how many positions, or frames, of a row are real.
      label_lengths: feature that says how many symbols of a sequence are real.
      weights: feature that says what each row counts for.
      inputs: further features that a model of your own reads.

    Raises:
      InputError: no such set prepared, no such feature, or rows that cannot be used.
    """
    builder = _open(name, data_dir)
    kinds = dict(builder.info.features.items())
    x_name, y_name = _names(builder, kinds, features, label)
    more = further(lengths, label_lengths, weights, inputs)
    for wanted in (x_name, y_name, *more.values(), *filter(None, [client])):
        if wanted not in kinds:
            hint = registry.nearest(wanted, list(kinds))
            raise InputError(f"{name} has no feature {wanted!r}; {hint}")
    names = _Names(x_name, y_name, client, more)
    first = _columns(builder, train, names)
    classes = getattr(kinds[y_name], "num_classes", None) or 0
    said = Said(target, 0, False, scale)
    split_off = test.split("[")[0]
    if split_off and split_off in builder.info.splits:
        second = _columns(builder, test, names)
        kind = target_of(said, name, first.labels, second.labels)
    else:
        kind = target_of(said, name, first.labels)
        held = hold_out(groups_of(kind, first), holdout)
        first, second = first.taken(~held), first.taken(held)
    if kind in ("class", "positions"):
        said = said._replace(classes=int(classes))
    return built(name, kind, said, first, second)


class NotPrepared(InputError):
    """No set of that name has been prepared."""


class _Names(NamedTuple):
    """Names of the features to read; ``client`` may be empty."""

    features: str
    labels: str
    client: str
    more: dict[str, str]


def _open(name: str, data_dir: str) -> Any:
    """The builder of a prepared set with random access."""
    from tensorflow_datasets.core import read_only_builder, registered

    place = f", data_dir={data_dir!r}" if data_dir else ""
    cure = (
        "prepare it once: pip install 'fedjax_compress[prepare]' && python -c "
        f'"import tensorflow_datasets as tfds; tfds.builder({name!r}{place}, '
        "file_format='array_record').download_and_prepare()\""
    )
    where = {"data_dir": data_dir} if data_dir else {}
    try:
        builder = read_only_builder.builder_from_files(name, **where)
    except registered.DatasetNotFoundError:
        raise NotPrepared(
            f"{name} is not prepared in {_shown(data_dir)}; {cure}"
        ) from None
    except ValueError as error:
        raise InputError(f"{name}: {str(error).splitlines()[0]}") from None
    try:
        builder.as_data_source()
    except (NotImplementedError, ValueError):
        kind = getattr(builder.info.file_format, "value", "an unknown format")
        raise InputError(
            f"{name} is prepared as {kind}, which cannot be read at random; delete "
            f"{builder.data_dir} and {cure}"
        ) from None
    return builder


def _shown(data_dir: str) -> str:
    if data_dir:
        return data_dir
    from tensorflow_datasets.core import constants

    return str(constants.DATA_DIR)


def _names(builder: Any, kinds: dict[str, Any], x: str, y: str) -> tuple[str, str]:
    """The features to learn from and to predict, where not given."""
    pair = builder.info.supervised_keys or (None, None)
    if len(pair) != 2 or not all(isinstance(p, str) for p in pair):
        pair = (None, None)
    x = x or pair[0] or _only(builder, kinds, "Image", "features")
    y = y or pair[1] or _only(builder, kinds, "ClassLabel", "label")
    return x, y


def _only(builder: Any, kinds: dict[str, Any], kind: str, option: str) -> str:
    found = [k for k, v in kinds.items() if type(v).__name__ == kind]
    if len(found) != 1:
        raise InputError(
            f"{builder.name}: say which feature to use, {option}=NAME; "
            f"it has {', '.join(kinds)}"
        )
    return found[0]


def _columns(builder: Any, split: str, names: _Names) -> Rows:
    """All examples of a split."""
    try:
        source = builder.as_data_source(split)
    except (ValueError, KeyError, AssertionError):
        splits = list(builder.info.splits)
        hint = registry.nearest(split, splits) if splits else "it has none"
        raise InputError(f"{builder.name} has no split {split!r}; {hint}") from None
    where = f"{builder.name}, split {split}"
    if len(source) == 0:
        raise InputError(f"{where}: no rows")
    client = [names.client] if names.client else []
    wanted = [names.features, names.labels, *client, *names.more.values()]
    with _without_advice():
        x, y, *others = _read(source, wanted, where)
    check_features(x, where)
    ids = others.pop(0) if client else None
    return Rows(builder.name, x, y, ids, dict(zip(names.more, others, strict=True)))


def _read(source: Any, names: list[str], where: str) -> list[np.ndarray]:
    """One array for each of the named features, the first filled in place."""
    first = np.asarray(source[0][names[0]])
    features = np.empty((len(source), *first.shape), first.dtype)
    others: list[list[Any]] = [[] for _ in names[1:]]
    for row, example in enumerate(source):
        value = np.asarray(example[names[0]])
        if value.shape != first.shape:
            raise InputError(
                f"{where}: row {row} has shape {value.shape}, row 0 {first.shape}; "
                "examples must have one shape"
            )
        features[row] = value
        for column, other in zip(others, names[1:], strict=True):
            column.append(example[other])
    for name, column in zip(names[1:], others, strict=True):
        if len({np.shape(value) for value in column}) > 1:
            raise InputError(f"{where}: rows of {name} have shapes that differ")
    return [features, *(np.asarray(column) for column in others)]


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps the library from advising OpenCV: Pillow decodes, which is fine."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
