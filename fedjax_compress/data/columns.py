"""From arrays as people keep them to the columns of a ``Dataset``."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.dataset import check_rows
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.data.values import check_finite
from fedjax_compress.errors import InputError, one_line
from fedjax_compress.typing import Columns

_MANY = 1000
"""So many classes are believed without being said."""
_SHOWN = 60
_NAMES = 12


def shortened(path: str) -> str:
    """A path as a message shows it."""
    return path if len(path) <= _SHOWN else f"{path[:_SHOWN]}..."


def shown(names: Sequence[str]) -> str:
    """Names as a message shows them."""
    if len(names) <= _NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES])}, ... ({len(names)} in all)"


def find(path: str, what: str) -> Path:
    """The file or folder at ``path`` (``~`` is the home folder), called ``what``.

    Raises:
      InputError: it does not exist.
    """
    try:
        found = Path(path).expanduser()
        exists = bool(path) and found.exists()
    except (OSError, RuntimeError) as error:  # a name too long, no home folder
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} {shortened(path)!r}: {reason}") from None
    if not exists:
        raise InputError(
            f"{what} {path!r} does not exist; paths start from {Path.cwd()}"
        )
    return found


def load_npz(path: str, names: list[str]) -> list[np.ndarray]:
    """The named arrays of an ``.npz`` file, in the order of ``names``.

    Raises:
      InputError: missing file, not an ``.npz``, or an array that is not in it.
    """
    with _open(path) as archive:
        for name in names:
            if name not in archive.files:
                hint = registry.nearest(name, list(archive.files))
                raise InputError(f"{path} has no array {name!r}; {hint}")
        return [_array(archive, name, path) for name in names]


def _array(archive: np.lib.npyio.NpzFile, name: str, path: str) -> np.ndarray:
    try:
        return archive[name]
    except Exception as error:
        reason = one_line(error)
        if "Object arrays" in reason:
            raise InputError(
                f"{path}: array {name!r} holds Python objects, which are not read; "
                "save it as numbers or as text (dtype 'U')"
            ) from None
        raise InputError(f"{path} is damaged: {reason}") from None


def map_npy(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file, memory-mapped: nothing but its header is read.

    Raises:
      InputError: not an ``.npy`` file, or an array that cannot be read row by row.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        reason = one_line(error)
        if "Python objects" in reason:
            raise InputError(
                f"{path} holds Python objects, which are not read; "
                "save it as numbers or as text (dtype 'U')"
            ) from None
        raise InputError(_not_read(path, path, ".npy", error)) from None
    if not array.flags.c_contiguous:
        raise InputError(
            f"{path} is stored column by column (Fortran order); "
            "save numpy.ascontiguousarray of it"
        )
    return array


def has_array(path: str, name: str) -> bool:
    """Whether an ``.npz`` file holds an array of this name."""
    with _open(path) as archive:
        return name in archive.files


def _open(path: str) -> np.lib.npyio.NpzFile:
    file = find(path, "file")
    if file.is_dir():
        raise InputError(
            f"{path} is a folder, but npz reads one file; for a folder of .npy files "
            "use npy"
        )
    try:
        _check_whole(file)
        archive = np.load(file, allow_pickle=False)
    except Exception as error:
        raise InputError(_not_read(file, path, ".npz", error)) from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{path} holds one bare array; save it with numpy.savez")
    if archive.zip is None or not any(
        member.endswith(".npy") for member in archive.zip.namelist()
    ):
        archive.close()
        raise InputError(f"{path} is no .npz: it {describe_kind(file)}")
    return archive


def _check_whole(file: Path) -> None:
    """Raises BadZipFile for an archive cut short, which numpy would leave open."""
    with open(file, "rb") as opened:
        begins = opened.read(2) == b"PK"
    if begins and not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile("the end of the archive is missing")


def _not_read(file: Path, path: str | Path, kind: str, error: Exception) -> str:
    """Why a file was not read: the system, damage, or a file of another kind."""
    if isinstance(error, OSError) and error.strerror:
        return f"{path} cannot be read: {error.strerror}"
    if isinstance(error, (zipfile.BadZipFile, EOFError)) and file.stat().st_size:
        return f"{path} is damaged or not whole: {one_line(error)}; save it again"
    with open(file, "rb") as opened:
        if opened.read(6) == b"\x93NUMPY":
            return f"{path} cannot be read as {kind}: {one_line(error)}"
    return f"{path} cannot be read as {kind}: it {describe_kind(file)}"


def check_columns(
    where: str,
    features: np.ndarray,
    labels: np.ndarray,
    others: list[np.ndarray],
    more: Columns,
) -> None:
    """Raises InputError where a column has no rows or another length.

    Args:
      where: what a message calls the rows.
      features, labels: [rows, ...].
      others: client ids and test marks, [rows] each.
      more: further columns, [rows, ...] each.
    """
    for column in (features, labels, *others, *more.values()):
        if column.ndim == 0:
            raise InputError(f"{where}: a column is a single value, not rows")
    check_rows(where, {"features": features, "labels": labels, **more}, None)
    for column in others:
        if column.ndim != 1 or len(column) != len(labels):
            raise InputError(
                f"{where}: {len(labels)} rows, so a column of client ids or test marks "
                f"must have shape ({len(labels)},), not {column.shape}"
            )


def as_features(
    array: np.ndarray, where: str, tokens: bool = False, pictures: bool = True
) -> np.ndarray:
    """Features as they are kept; what divides them is said by the task.

    uint8 stays, everything else becomes float32, tokens become int32; images without
    an axis of channels ([rows, height, width]) get one at the end, unless it is said
    that they are no ``pictures``. What has the right type is not copied.

    Raises:
      InputError: see ``check_features``.
    """
    check_features(array, where, tokens)
    if tokens:
        return array.astype(np.int32, copy=False)
    if array.dtype != np.uint8:
        if array.dtype.kind == "f" and array.dtype.itemsize > 4:
            check_finite(where, array)
        array = array.astype(np.float32, copy=False)
    return array[..., None] if pictures and array.ndim == 3 else array


def check_features(array: np.ndarray, where: str, tokens: bool = False) -> None:
    """Raises InputError unless they are numbers, with an axis beside the rows."""
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: features must be numbers, not {array.dtype}")
    if array.ndim < 2:
        raise InputError(
            f"{where}: features must have shape [rows, ...], not {array.shape}"
        )
    if not np.prod(array.shape[1:]):
        raise InputError(f"{where}: a row of features is empty: shape {array.shape}")
    if tokens and array.dtype.kind not in "iu":
        raise InputError(f"{where}: tokens must be integers, not {array.dtype}")


def as_labels(array: np.ndarray, where: str, what: str = "label") -> np.ndarray:
    """Labels, or whatever ``what`` says, as int32.

    Raises:
      InputError: not whole numbers.
    """
    if array.dtype.kind == "f":
        wrong = ~(np.isfinite(array) & (array == np.round(array)))
        if wrong.any():
            spot = np.unravel_index(int(wrong.argmax()), array.shape)
            raise InputError(
                f"{where}: {what} {array[spot]} in row {spot[0]} is no whole number"
            )
    elif array.dtype.kind not in "biu":
        raise InputError(f"{where}: {what}s must be integers, not {array.dtype}")
    limit = 2**31
    if array.size and (array.min() < -limit or array.max() >= limit):
        raise InputError(f"{where}: {what}s must fit 32 bits")
    return array.astype(np.int32)


def number_of_classes(given: int, *labels: np.ndarray) -> int:
    """``given``, or for 0 one more than the largest label.

    Raises:
      InputError: a negative number, or a guess of more classes than there are labels.
    """
    if given < 0:
        raise InputError(f"classes must be positive, not {given}")
    found = 1 + max((int(x.max()) for x in labels if x.size), default=0)
    if not given and found > max(_MANY, sum(x.size for x in labels)):
        raise InputError(
            f"the largest label is {found - 1}, more than there are labels: number the "
            f"classes 0, 1, ..., or say classes={found} if there are so many"
        )
    return given or found
