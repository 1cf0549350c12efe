"""From what LEAF's files hold to columns: numbers, pictures, windows, posts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedjax_compress.checks.returned import describe
from fedjax_compress.data.characters import PAD, encode, first_characters
from fedjax_compress.data.columns import find
from fedjax_compress.data.leaf_files import User, as_numbers
from fedjax_compress.data.pictures import Size, read_pictures
from fedjax_compress.errors import InputError
from fedjax_compress.typing import PIXEL, has_pictures

Kind = Literal["numbers", "files", "windows", "posts"]
Parts = list[list[User]]
"""Users of each part; all have rows."""
Columns = list[np.ndarray]
"""One for each part, [rows, ...]."""
_POST, _SAYS = 5, 4
"""Texts of a post of Sent140: id, date, query, user, and what it says."""
_LEAST = 8
"""Height and width of the smallest picture that rows of numbers are taken for."""


def kind_of(parts: Parts, where: str) -> Kind:
    """What the files hold, by the first example of each user; ``files`` are pictures.

    Raises:
      InputError: two kinds, or none that is read.
    """
    first, *others = (user for part in parts for user in part)
    kind = _kind(first, where)
    for user in others:
        if (other := _kind(user, where)) != kind:
            raise InputError(
                f"{where}: user {first.name!r} has {kind}, but {user.name!r} {other}"
            )
    return kind


def _kind(user: User, where: str) -> Kind:
    if isinstance(user.x, np.ndarray):
        return "numbers"
    x, y = user.x[0], user.y[0]
    if isinstance(x, str):
        return "windows" if isinstance(y, str) else "files"
    inner = x if isinstance(x, list) else []
    if len(inner) == _POST and all(isinstance(text, str) for text in inner):
        return "posts"
    if inner and all(isinstance(number, (int, float)) for number in inner):
        raise InputError(
            f"{where}: rows of user {user.name!r} are no lists of numbers of one length"
        )
    raise InputError(
        f"{where}: x of user {user.name!r} is not what leaf reads: lists of numbers, "
        "names of pictures, windows of text (Shakespeare) or posts (Sent140); Reddit's "
        "words are not read"
    )


def labels_of(parts: Parts, where: str) -> Columns:
    """What y holds, as numbers.

    Raises:
      InputError: anything but numbers, or lists of several lengths.
    """
    return [np.concatenate([_labels(user, where) for user in part]) for part in parts]


def _labels(user: User, where: str) -> np.ndarray:
    try:
        found = np.asarray(user.y)
    except ValueError:
        found = np.asarray(None)
    if found.dtype.kind not in "biuf" or not found.ndim:
        raise InputError(
            f"{where}: y of user {user.name!r} must be numbers, all alike, not "
            f"{describe(user.y[0])}"
        )
    return found


def numbers(
    parts: Parts, shape: tuple[int, ...], keep: bool, where: str
) -> tuple[Columns, bool]:
    """Rows of numbers, and whether they are pixels that were in 255ths.

    Args:
      parts: of users whose ``x`` are arrays.
      shape: of one example; empty for pictures of one channel where rows are a square
        number of 0..1 (or whole numbers of 0..255), else as they are.
      keep: whether pictures in 255ths are given back as uint8.
      where: what a message calls the files.

    Raises:
      InputError: users with rows of different lengths, or that do not fit the shape.
    """
    first, *others = (user for part in parts for user in part)
    inner = np.shape(first.x)[1:]
    for user in others:
        if np.shape(user.x)[1:] != inner:
            raise InputError(
                f"{where}: a row of user {first.name!r} has shape {inner}, one of "
                f"{user.name!r} {np.shape(user.x)[1:]}"
            )
    if not math.prod(inner):
        raise InputError(f"{where}: a row of user {first.name!r} has no numbers")
    if shape and math.prod(shape) != math.prod(inner):
        raise InputError(
            f"{where}: shape {shape} needs {math.prod(shape)} numbers a row, but there "
            f"are {math.prod(inner)}"
        )
    arrays = [[np.asarray(user.x) for user in part] for part in parts]
    flat = [array for part in arrays for array in part]
    side = math.isqrt(math.prod(inner))
    if not shape and len(inner) == 1 and side >= _LEAST and inner == (side * side,):
        shape = (side, side, 1) if all(map(_are_tones, flat)) else ()
    shape = shape or inner
    pixels = keep and has_pictures(shape) and all(x.dtype == np.uint8 for x in flat)
    if not pixels:
        arrays = [[as_numbers(array) for array in part] for part in arrays]
    columns = [np.concatenate(part).reshape(-1, *shape) for part in arrays]
    return [_bytes(column) for column in columns], pixels


def _are_tones(array: np.ndarray) -> bool:
    most = 255 if array.dtype.kind == "i" else 1
    return array.dtype == np.uint8 or bool(0 <= array.min() <= array.max() <= most)


def _bytes(column: np.ndarray) -> np.ndarray:
    """Whole numbers of 0..255 as uint8; all else as it is."""
    fits = column.dtype.kind == "i" and 0 <= column.min() <= column.max() <= PIXEL
    return column.astype(np.uint8) if fits else column


def pictures(parts: Parts, folder: Path, size: Size, where: str) -> Columns:
    """Pictures in colour, of which ``x`` are the names.

    Raises:
      InputError: no such folder, a name that is none, a file that is no picture.
    """
    try:
        place = find(str(folder), "folder of pictures")
    except InputError as error:
        raise InputError(f"{where}: {error}; name it with images='FOLDER'") from None
    files = [place / name for part in parts for name in _texts(part, where)]
    ends = np.cumsum([sum(len(user.y) for user in part) for part in parts])
    return np.split(read_pictures(files, size, 3), ends[:-1])


def windows(parts: Parts, where: str) -> tuple[Columns, Columns]:
    """Symbols of windows of text, and what follows at the last of them.

    Returns:
      int32 [rows, length] of each part, twice; the latter is PAD but in its last
      column.

    Raises:
      InputError: windows of several lengths, or more or less than one character for
        what follows.
    """
    length = len(parts[0][0].x[0])
    features, labels = [], []
    for part in parts:
        texts = list(_texts(part, where))
        wrong = next((text for text in texts if len(text) != length), None)
        if wrong is not None or not length:
            raise InputError(
                f"{where}: windows of text must be of one length, but {wrong!r} has "
                f"{len(wrong or '')} characters, the first one {length}"
            )
        follows = [y for user in part for y in user.y]
        for y in follows:
            if not isinstance(y, str) or len(y) != 1:
                raise InputError(
                    f"{where}: y of a window of text must be the next character, not "
                    f"{y!r}"
                )
        features.append(encode("".join(texts)).reshape(-1, length))
        labels.append(np.full_like(features[-1], PAD))
        labels[-1][:, -1] = encode("".join(follows))
    return features, labels


def posts(parts: Parts, length: int, where: str) -> Columns:
    """Symbols of what posts say, int32 [rows, length] of each part; PAD after its end.

    Raises:
      InputError: a post that is not five texts, or a length below 1.
    """
    if length < 1:
        raise InputError(f"length must be at least 1, not {length}")
    texts = ([_said(x, user, where) for user in p for x in user.x] for p in parts)
    return [first_characters(part, length) for part in texts]


def moods(labels: Columns) -> Columns:
    """Whether a post is happy, 0 or 1; in the original it is 0 or 4."""
    if all(np.isin(column, (0, 4)).all() for column in labels):
        return [column // 4 for column in labels]
    return labels


def _said(post: Any, user: User, where: str) -> str:
    if isinstance(post, list) and len(post) == _POST and isinstance(post[_SAYS], str):
        return post[_SAYS]
    raise InputError(
        f"{where}: a post of user {user.name!r} is not id, date, query, user and text"
    )


def _texts(part: list[User], where: str) -> Iterator[str]:
    for user in part:
        for x in user.x:
            if not isinstance(x, str):
                raise InputError(
                    f"{where}: x of user {user.name!r} must be texts, all of them, not "
                    f"{describe(x)}"
                )
            yield x
