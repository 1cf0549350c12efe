"""The JSON that LEAF writes: where it lies, and what it holds of each user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_compress.data.columns import find
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.errors import InputError, one_line

_WHOLE = ("rem_user_data", "sampled_data", "all_data")
"""Folders of what is not cut into train and test, in the order in which LEAF looks."""
_NEEDED = "train/*.json and test/*.json, or all_data/*.json"
TONES = (np.arange(256) / 255).astype(np.float32)
"""What LEAF makes of the 256 values of a pixel."""


class Places(NamedTuple):
    """Where a data set lies.

    Attributes:
      name: what it is called: the folder ``data`` takes the name of its parent.
      folder: the folder ``data``.
      parts: the files to learn from and those to test on, or all of them together.
    """

    name: str
    folder: Path
    parts: tuple[list[Path], ...]


class User(NamedTuple):
    """Examples of one user of one file.

    Attributes:
      name: of the user.
      x: [rows, ...] numbers, in 255ths as uint8 where all are that; else a list.
      y: a list.
    """

    name: str
    x: np.ndarray | list[Any]
    y: list[Any]


def find_places(path: str) -> Places:
    """Files by part: of LEAF's folder of a set, its folder ``data``, or one file.

    Raises:
      InputError: nothing at the path, or no JSON in its folders.
    """
    given = find(path, "folder")
    if not given.is_dir():
        return Places(given.name.split(".")[0], given.parent, ([given],))
    for folder in (given, given / "data"):
        if parts := _parts_in(folder):
            whole = folder.resolve()
            name = (whole.parent if whole.name == "data" else whole).name
            return Places(name or path, folder, parts)
    raise InputError(f"{path} holds no JSON as LEAF writes it; needed are {_NEEDED}")


def _parts_in(folder: Path) -> tuple[list[Path], ...]:
    train, test = _files(folder / "train"), _files(folder / "test")
    if train and test:
        return train, test
    if train or test:
        lacking = "test" if train else "train"
        raise InputError(f"{folder} holds no {lacking}/*.json; needed are {_NEEDED}")
    for inner in (*_WHOLE, ""):
        if whole := _files(folder / inner):
            return (whole,)
    return ()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def read_users(file: Path) -> list[User]:
    """What a file holds of each user, in its order; users without rows are left out.

    Raises:
      InputError: another kind of file, one that is cut short, or of another layout.
    """
    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream, object_hook=_packed)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        kind = describe_kind(file)
        reason = f"it {kind}" if "JSON" not in kind else one_line(error)
        raise InputError(f"{file} is not whole JSON: {reason}") from None
    data = content.get("user_data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise InputError(
            f"{file} is not JSON of LEAF: it has no 'user_data' with 'x' and 'y' for "
            "each user"
        )
    users = content.get("users", [])
    if not isinstance(users, list):
        raise InputError(f"{file}: 'users' must be a list of names")
    for name in users:
        if not isinstance(name, str) or name not in data:
            raise InputError(f"{file}: user {name!r} has no rows in 'user_data'")
    return [user for name in data if (user := _user(file, name, data[name])).y]


def _user(file: Path, name: str, found: Any) -> User:
    if not isinstance(found, _Packed):
        raise InputError(f"{file}: user {name!r} has no lists 'x' and 'y'")
    if len(found.x) != len(found.y):
        raise InputError(
            f"{file}: user {name!r} has {len(found.x)} x but {len(found.y)} y"
        )
    return User(name, found.x, found.y)


class _Packed(NamedTuple):
    x: np.ndarray | list[Any]
    y: list[Any]


def _packed(found: dict[str, Any]) -> Any:
    """A user's examples as soon as they are read, numbers as an array.

    A number in a list takes 32 bytes, so that a file of pictures would not fit.
    """
    x, y = found.get("x"), found.get("y")
    if not (isinstance(x, list) and isinstance(y, list)):
        return found
    return _Packed(_as_array(x), y)


def _as_array(x: list[Any]) -> np.ndarray | list[Any]:
    if not x or not isinstance(x[0], list):
        return x
    try:
        array = np.asarray(x)
    except (ValueError, OverflowError):  # rows of several lengths
        return x
    if array.dtype.kind != "f":
        return array if array.dtype.kind == "i" else x
    if array.size and 0 <= array.min() <= array.max() <= 1:
        tones = np.round(array * 255).astype(np.uint8)
        if (TONES[tones] == array.astype(np.float32)).all():
            return tones
    with np.errstate(over="ignore"):  # infinity is refused later
        return array.astype(np.float32)


def as_numbers(tones: np.ndarray) -> np.ndarray:
    """Floats of what is kept in 255ths; all else as it is."""
    return TONES[tones] if tones.dtype == np.uint8 else tones
