"""CIFAR-10 and CIFAR-100 as their authors publish them, in the binary version."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import Rows, Said, built
from fedjax_compress.data.columns import find
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.data.scaling import Scale
from fedjax_compress.errors import InputError

_PIXELS = 3 * 32 * 32


class _Version(NamedTuple):
    """One of the two sets.

    Attributes:
      name: what reports call it.
      archive: what its authors call the archive, and ``folder`` the folder in it.
      train, test: names of files, without ``.bin``.
      labels: names of the bytes before the pixels of a record, and of how many classes.
    """

    name: str
    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: dict[str, int]


_VERSIONS = (
    _Version(
        "cifar10",
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        {"fine": 10},
    ),
    _Version(
        "cifar100",
        "cifar-100-binary.tar.gz",
        "cifar-100-binary",
        ("train",),
        "test",
        {"coarse": 20, "fine": 100},
    ),
)


@registry.register("data")
def cifar(
    path: str,
    labels: Literal["fine", "coarse"] = "fine",
    client: Literal["none", "coarse"] = "none",
    scale: Scale = "auto",
) -> Dataset:
    """CIFAR-10 or CIFAR-100 from the files of its binary version.

    The folder holds data_batch_1.bin .. data_batch_5.bin and test_batch.bin, records of
    a label and 3,072 pixels; or, for CIFAR-100, train.bin and test.bin, records of a
    coarse label, a fine label and 3,072 pixels. Images come out as uint8 (32, 32, 3).
    The versions for Python are pickles, which are never read.

    Args:
      path: the folder with these files, or the one that holds it.
      labels: of CIFAR-100: fine for its 100 classes, coarse for the 20 above them.
      client: of CIFAR-100: coarse for 20 clients, each with the five fine classes of a
        coarse one; none for no clients of its own.
      scale: what divides pixels before a network reads them: a number, none, or auto
        for 255.

    Raises:
      InputError: a missing folder or file, one that is not whole records, a label that
        is none, coarse labels of CIFAR-10.

    Reference: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images"
      (2009); the format as its authors describe it beside the files.
    """
    folder = find(path, "folder")
    if not folder.is_dir():
        raise InputError(
            f"{path} is a file that {describe_kind(folder)}; cifar reads the folder "
            "of the binary version"
        )
    place, version = _found(folder)
    if "coarse" in (labels, client) and "coarse" not in version.labels:
        raise InputError(
            f"{place} holds CIFAR-10, but only CIFAR-100 has coarse labels"
        )
    train, test = (
        _part(place, version, names, labels, client)
        for names in (version.train, (version.test,))
    )
    said = Said(classes=version.labels[labels], scale=scale)
    return built(version.name, "class", said, train, test)


def _found(folder: Path) -> tuple[Path, _Version]:
    """The folder that holds a binary version, and which.

    Raises:
      InputError: none, or not all of its files.
    """
    for version in _VERSIONS:
        names = (*version.train, version.test)
        for place in (folder, folder / version.folder):
            missing = [f"{n}.bin" for n in names if not (place / f"{n}.bin").is_file()]
            if not missing:
                return place, version
            if len(missing) < len(names):
                raise InputError(f"{place} lacks {', '.join(missing)}")
    for version in _VERSIONS:
        for place in (folder, *sorted(x for x in folder.iterdir() if x.is_dir())):
            _refuse_foreign(place, version)
    raise InputError(
        f"{folder} holds neither data_batch_1.bin .. data_batch_5.bin and "
        "test_batch.bin (CIFAR-10) nor train.bin and test.bin (CIFAR-100)"
    )


def _refuse_foreign(place: Path, version: _Version) -> None:
    """Raises InputError where files lie in the version for Python or for MATLAB."""
    for ending in ("", ".mat"):
        file = place / f"{version.train[0]}{ending}"
        if not file.is_file():
            continue
        kind = describe_kind(file).split(";")[0]
        raise InputError(
            f"{file} {kind}; take the binary version of the same authors, "
            f"{version.archive}"
        )


def _part(
    place: Path, version: _Version, names: tuple[str, ...], labels: str, client: str
) -> Rows:
    files = [place / f"{name}.bin" for name in names]
    records = np.concatenate([_records(file, version) for file in files])
    known = list(version.labels)
    pixels = records[:, len(known) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    ids = records[:, known.index(client)] if client in known else None
    where = f"{version.name}, {files[0].stem}"
    y = records[:, known.index(labels)]
    return Rows(where, np.ascontiguousarray(pixels), y, ids, {})


def _records(file: Path, version: _Version) -> np.ndarray:
    """uint8 [records, labels and pixels].

    Raises:
      InputError: the file ends within a record, or a label is none.
    """
    size = len(version.labels) + _PIXELS
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
    if not len(data) or len(data) % size:
        raise InputError(
            f"{file} is not whole, or no binary version of {version.name}: it has "
            f"{len(data):,} bytes, which is no number of records of {size:,}"
        )
    records = data.reshape(-1, size)
    for column, (name, classes) in enumerate(version.labels.items()):
        if (wrong := records[:, column] >= classes).any():
            row = int(wrong.argmax())
            raise InputError(
                f"{file} is no binary version of {version.name}: record {row} has the "
                f"{name} label {records[row, column]}, above {classes - 1}"
            )
    return records
