"""The MNIST family as it is published: a folder of IDX files."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import Rows, Said, built
from fedjax_compress.data.columns import check_columns, check_features, find
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.data.scaling import Scale
from fedjax_compress.errors import InputError

_NAME = re.compile(
    r"(?:(?P<prefix>.+)-)?(?P<part>train|t10k|test)-(?P<what>images|labels)"
    r"[-.]idx\d-(?:ubyte|int)(?:\.gz)?"
)
_NEEDED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, each with or without .gz"
)
_INNER = ("raw", "gzip")
"""Folders in which the files lie for torchvision, and in the archive of EMNIST."""
_PARTS = {"train": "train", "test": "test", "t10k": "test"}
_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_COLUMNS, _WRITER = 8, 2
"""Of QMNIST's labels; the first is the class."""
Found = dict[tuple[str, str], Path]
"""The file of each part, train or test, and of images or labels."""


@registry.register("data")
def idx(
    path: str,
    prefix: str = "",
    transpose: Literal["auto"] | bool = "auto",
    scale: Scale = "auto",
) -> Dataset:
    """MNIST, Fashion-MNIST, KMNIST, EMNIST, QMNIST: a folder of the published files.

    It holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte
    and t10k-labels-idx1-ubyte, with or without .gz, if you like behind a prefix, as in
    emnist-byclass-train-images-idx3-ubyte; ``test`` for ``t10k`` and ``.idx3`` for
    ``-idx3`` are understood, and so are folders ``raw`` and ``gzip`` inside.

    Images of bytes stay uint8 [rows, height, width, 1]. Labels stay as they are stored:
    those of emnist-letters are 1..26, so that its class 0 has no rows. QMNIST's labels
    (-idx2-int, 8 columns) give the class, and the writer as each row's own client;
    otherwise there are no clients.

    Args:
      path: the folder.
      prefix: what stands before ``-train-images``, as in emnist-byclass; to be said
        where the folder holds several sets.
      transpose: whether rows and columns of each picture change places; auto for
        EMNIST, which is published on its side.
      scale: what divides pixels before a network reads them: a number, none, or auto:
        255 for bytes.

    Raises:
      InputError: a missing folder or file, one that is no IDX or not whole, images and
        labels that do not fit each other.

    Reference: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", for
      the format; Yadav and Bottou, "Cold Case: The Lost MNIST Digits" (2019), for the
      columns of labels; Cohen et al., "EMNIST" (2017).
    """
    folder = find(path, "folder")
    if not folder.is_dir():
        raise InputError(
            f"{path} is a file, but idx reads the folder that holds {_NEEDED}"
        )
    name, files = _chosen(folder, prefix)
    turned = name.startswith("emnist") if transpose == "auto" else transpose
    parts = [_part(files, part, turned) for part in ("train", "test")]
    called = name or folder.resolve().name or path
    return built(called, "class", Said(scale=scale), *parts)


def read_idx(file: Path) -> np.ndarray:
    """The array of an IDX file, which may be compressed by gzip.

    The file holds two zero bytes, the type of the numbers, how many axes there are,
    the length of each (4 bytes), and the numbers, all with the highest byte first.

    Raises:
      InputError: another kind of file, or one that is not whole.
    """
    data = _content(file)
    kind, axes = (data[2], data[3]) if len(data) > 3 else (0, 0)
    if data[:2] != b"\0\0" or kind not in _TYPES or not axes:
        inside = "holds something else inside gzip"
        found = inside if _is_gzip(file) else describe_kind(file)
        raise InputError(f"{file} is no IDX: it {found}")
    begin = 4 + 4 * axes
    dtype = np.dtype(_TYPES[kind])
    shape = struct.unpack(f">{axes}I", data[4:begin]) if len(data) >= begin else None
    whole = begin + dtype.itemsize * math.prod(shape or ())
    if shape is None or len(data) != whole:
        said = " x ".join(f"{n:,}" for n in shape or ())
        what = f", by which it holds {said} numbers in {whole:,} bytes" if said else ""
        raise InputError(
            f"{file} does not fit its header{what}, but there are {len(data):,} bytes; "
            "get it again"
        )
    return np.frombuffer(data, dtype, offset=begin).reshape(shape)


def _content(file: Path) -> bytes:
    try:
        with gzip.open(file) if _is_gzip(file) else open(file, "rb") as stream:
            return stream.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{file} is damaged or not whole: {error}") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None


def _is_gzip(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _chosen(folder: Path, prefix: str) -> tuple[str, Found]:
    """The prefix of the set to read, and its four files.

    Raises:
      InputError: no such set, several of them, or a file that is missing.
    """
    for place in (folder, *(folder / inner for inner in _INNER)):
        if sets := _sets(place):
            break
    else:
        raise InputError(f"{folder} holds no IDX files by their names: {_NEEDED}")
    known = sorted(sets)
    if prefix not in sets:
        if prefix:
            hint = registry.nearest(prefix, [x for x in known if x] or ["''"])
            raise InputError(f"{place} has no files {prefix}-train-...; {hint}")
        if len(known) > 1:
            raise InputError(
                f"{place} holds several sets, {', '.join(known)}; say which, as in "
                f"prefix='{known[0]}'"
            )
        (prefix,) = known
    begin = f"{prefix}-" if prefix else ""
    missing = [
        f"{begin}{part}-{what}-..."
        for part in ("train", "t10k")
        for what in ("images", "labels")
        if (_PARTS[part], what) not in sets[prefix]
    ]
    if missing:
        raise InputError(f"{place} lacks {', '.join(missing)}; needed are {_NEEDED}")
    return prefix, sets[prefix]


def _sets(folder: Path) -> dict[str, Found]:
    """Files by prefix; of several of one kind QMNIST's labels, and those unpacked."""
    found: dict[str, Found] = {}
    files = folder.iterdir() if folder.is_dir() else ()
    first = sorted(files, key=lambda x: ("idx2" not in x.name, x.suffix == ".gz"))
    for file in first:
        if (match := _NAME.fullmatch(file.name)) and file.is_file():
            kind = _PARTS[match["part"]], match["what"]
            found.setdefault(match["prefix"] or "", {}).setdefault(kind, file)
    return found


def _part(files: Found, part: str, turned: bool) -> Rows:
    """The rows of a part, whose labels may say who has written them."""
    image_file, label_file = files[part, "images"], files[part, "labels"]
    x, y = read_idx(image_file), read_idx(label_file)
    where = str(image_file)
    if x.ndim < 3:
        raise InputError(f"{where} holds no images, but numbers of shape {x.shape}")
    ids = None
    if y.ndim == 2 and y.shape[1] == _COLUMNS:
        y, ids = y[:, 0], y[:, _WRITER]
    if y.ndim != 1:
        raise InputError(
            f"{label_file} must hold one label a row, or QMNIST's {_COLUMNS} columns, "
            f"not numbers of shape {y.shape}"
        )
    check_columns(where, x, y, [] if ids is None else [ids], {})
    check_features(x, where)
    if turned:
        x = np.ascontiguousarray(x.swapaxes(1, 2))
    return Rows(part, _native(x), _native(y), None if ids is None else _native(ids), {})


def _native(column: np.ndarray) -> np.ndarray:
    return column.astype(column.dtype.newbyteorder("="), copy=False)
