"""A user's own arrays of any size: a folder of ``.npy`` files, left on the disk."""

from __future__ import annotations

from pathlib import Path

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
from fedjax_compress.data.columns import check_columns, check_features, find, map_npy
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.scaling import Scale
from fedjax_compress.errors import InputError

_FILES = "features.npy, labels.npy, test_features.npy and test_labels.npy"


@registry.register("data")
def npy(
    path: str,
    classes: int = 0,
    tokens: bool = False,
    scale: Scale = "auto",
    target: TargetOption = "auto",
    lengths: str = "",
    label_lengths: str = "",
    weights: str = "",
    inputs: Names = (),
) -> Dataset:
    """Your own arrays of any size: a folder of .npy files, read where they lie.

    The folder holds features.npy, labels.npy, test_features.npy and test_labels.npy,
    and, where the data have clients of their own, clients.npy (ids: numbers or names,
    in any order) and, if known, test_clients.npy. The files are memory-mapped: of the
    training features each round reads its cohort's rows only. Rows that stand client
    by client are read fastest. Labels (but one for each position), ids, lengths and
    weights are kept in memory. Images without an axis of channels get one. The files
    must not change during a run.

    Args:
      path: the folder.
      classes: number of classes, or of numbers that are predicted; 0 takes one more
        than the largest label, or what labels have in a row.
      tokens: whether features are integer tokens (text), 0 being the padding; labels
        are then of the same shape.
      scale: what divides the features before a network reads them: a number, none, or
        auto: 255 for pictures of whole numbers up to 255, which are pixels, else none.
      target: what labels hold: class, positions, several, number, sequence or auto, as
        for npz.
      lengths: name of a file, without its ending, that says how many positions of a row
        (frames of a sequence) are real; of the test rows, ``test_`` before it.
      label_lengths: likewise, how many symbols of a sequence are real.
      weights: likewise, what each row counts for.
      inputs: likewise, further columns that a model of your own reads.

    Raises:
      InputError: missing folder or file, features that are neither uint8 nor float32
        (further columns: nor int32; tokens and labels of positions: int32), which could
        be used only as a copy, or rows that cannot be used; see ``check``.
    """
    folder = find(path, "folder")
    if not folder.is_dir():
        raise InputError(
            f"{path} is a file, but npy reads a folder of .npy files; for one file of "
            "arrays use npz"
        )
    name = folder.resolve().name or path
    said = Said(target, classes, tokens, scale)
    more = further(lengths, label_lengths, weights, inputs)
    parts = [
        _part(folder, prefix, where, said, more)
        for prefix, where in (("", name), ("test_", f"{name}, test part"))
    ]
    if parts[0].ids is None and parts[1].ids is not None:
        raise InputError(f"{path} has test_clients.npy but no clients.npy")
    kind = target_of(said, name, *(part.labels for part in parts))
    for part in parts:
        if kind == "positions":
            _check_type(part.where, f"labels of {_what(tokens)}", part.labels, "int32")
    if kind != "positions":
        parts = [part._replace(labels=np.asarray(part.labels)) for part in parts]
    return built(name, kind, said, *parts)


def _what(tokens: bool) -> str:
    return "tokens" if tokens else "positions"


def _part(
    folder: Path, prefix: str, where: str, said: Said, more: dict[str, str]
) -> Rows:
    """The columns of one part; ids, lengths and weights in memory."""
    x, y = (_column(folder, f"{prefix}{column}") for column in ("features", "labels"))
    columns = {n: _column(folder, f"{prefix}{stored}") for n, stored in more.items()}
    has_ids = (folder / f"{prefix}clients.npy").exists()
    ids = _column(folder, f"{prefix}clients") if has_ids else None
    check_columns(where, x, y, [] if ids is None else [ids], columns)
    if said.tokens:
        _check_type(where, "tokens", x, "int32")
    else:
        _check_type(where, "features", x, "uint8", "float32")
    check_features(x, where, said.tokens)
    for name, column in columns.items():
        if name in ("lengths", "label_lengths", "weights"):
            columns[name] = np.asarray(column)
        else:
            _check_type(where, name, column, "uint8", "int32", "float32")
    return Rows(where, x, y, None if ids is None else np.asarray(ids), columns)


def _column(folder: Path, column: str) -> np.ndarray:
    file = folder / f"{column}.npy"
    if not file.exists():
        known = sorted(x.stem for x in folder.glob("*.npy"))
        own = column.removeprefix("test_") in ("features", "labels", "clients")
        cure = f"needed are {_FILES}" if own else registry.nearest(column, known)
        raise InputError(f"{folder} has no {file.name}; {cure}")
    return map_npy(file)


def _check_type(where: str, what: str, column: np.ndarray, *right: str) -> None:
    """Raises InputError where a column would have to be copied to be used."""
    if column.dtype not in [np.dtype(x) for x in right]:
        raise InputError(
            f"{where}: {what} are {column.dtype}, but on the disk they must be "
            f"{' or '.join(right)}; convert them with astype"
        )
