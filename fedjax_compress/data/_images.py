"""A folder of pictures by class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import Rows, Said, built
from fedjax_compress.data.columns import find
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.data.parts import in_two
from fedjax_compress.data.pictures import Channels, Size, endings, read_pictures
from fedjax_compress.data.scaling import Scale
from fedjax_compress.errors import InputError


@registry.register("data")
def images(
    path: str,
    size: Size = 0,
    channels: Channels = "auto",
    client: Literal["none", "folder"] = "none",
    train: str = "train",
    test: str = "test",
    holdout: float = 0.1,
    scale: Scale = "auto",
) -> Dataset:
    """A folder of pictures by class: PATH/train/CLASS/a.png, PATH/test/CLASS/b.png.

    Without ``train`` and ``test`` classes lie in the folder itself, PATH/CLASS/a.png,
    and a share is held out: the same share of every client where there are clients, of
    every class otherwise, the same pictures in every run. All formats that pillow reads
    are taken, by the endings of files; other files, and hidden ones, are left out.
    Classes are the names of their folders, sorted; rows are sorted by client, class and
    name of file. Pictures are decoded once and kept as uint8 [rows, height, width,
    channels].

    Args:
      path: the folder.
      size: height and width in pixels to which all are resized (bicubic; sides do not
        keep their ratio), or one number for both; 0 for pictures of one shape.
      channels: 1 for grey, 3 for red, green and blue; auto: 1 if all pictures are grey.
      client: folder: one more level of folders says whose pictures are,
        PATH/train/CLIENT/CLASS/a.png, PATH/test/CLIENT/CLASS/b.png, or
        PATH/CLIENT/CLASS/a.png.
      train: name of the folder with the pictures to learn from.
      test: likewise, of those to test on; empty holds out a share of the former.
      holdout: that share; between 0 and 1.
      scale: what divides pixels before a network reads them: a number, none, or auto
        for 255.

    Raises:
      InputError: a missing folder or one without pictures, a class for tests alone, a
        file that is no picture, pictures of different shapes without ``size``.
    """
    folder = find(path, "folder")
    if not folder.is_dir():
        raise InputError(
            f"{path} is a file that {describe_kind(folder)}; images reads a folder"
        )
    name = folder.resolve().name or path
    levels = 2 if client == "folder" else 1
    places = _parts(folder, train, test)
    listed = [_listed(place, levels) for place in places]
    names = sorted({found.label for found in listed[0]})
    for found in listed[-1]:
        if found.label not in names:
            hint = registry.nearest(found.label, names)
            raise InputError(
                f"{places[-1]} has the class {found.label!r}, which {places[0]} lacks; "
                f"{hint}"
            )
    files = [found.file for part in listed for found in part]
    pixels = read_pictures(files, size, channels)
    rows = [
        _rows(name, part, names, piece, client == "folder")
        for part, piece in zip(listed, _cut(pixels, listed), strict=True)
    ]
    two = rows if len(rows) == 2 else in_two(rows[0], None, "class", holdout)
    return built(name, "class", Said(classes=len(names), scale=scale), *two)


class _Found(NamedTuple):
    """A file, its class and its client."""

    client: str
    label: str
    file: Path


def _parts(folder: Path, train: str, test: str) -> list[Path]:
    """The folder to learn from and, unless a share of it is held out, that for tests.

    Raises:
      InputError: only one of the two is there, or none of a name that is given.
    """
    first = folder / train
    if train not in ("", "train") and not first.is_dir():
        hint = registry.nearest(train, [x.name for x in _folders(folder)])
        raise InputError(f"{folder} has no folder {train!r}; {hint}")
    if not (train and first.is_dir() and _folders(first)):
        return [folder]
    if not test:
        return [first]
    second = folder / test
    if not second.is_dir():
        there = ", ".join(x.name for x in _folders(folder))
        raise InputError(
            f"{folder} has {train!r} but no {test!r}; it holds {there}: say which is "
            f"for tests, as in test=val, or hold out a share of {train!r} with test=''"
        )
    return [first, second]


def _listed(place: Path, levels: int) -> list[_Found]:
    """All pictures below a folder, sorted.

    Raises:
      InputError: no folders of classes, or one that holds no pictures.
    """
    right = "CLIENT/CLASS" if levels == 2 else "CLASS"
    owners = _folders(place) if levels == 2 else [place]
    known, found = endings(), []
    for owner in owners:
        for label in _folders(owner):
            files = [file for file in label.iterdir() if _is_picture(file, known)]
            if not files:
                raise InputError(f"{label} holds no pictures{_why(label, levels)}")
            client = owner.name if levels == 2 else ""
            found += [_Found(client, label.name, file) for file in sorted(files)]
    if not found:
        raise InputError(
            f"{place} holds no folders of pictures; needed are {right}/a.png, "
            f"{right}/b.png, ..."
        )
    return found


def _why(label: Path, levels: int) -> str:
    inner = _folders(label)
    if not inner:
        return " (.png, .jpg and whatever else pillow reads); leave the folder out"
    if levels == 1:
        return (
            f", but folders, as {inner[0].name}; if they are classes and "
            f"{label.name} is whose they are, say client=folder"
        )
    return f", but folders, as {inner[0].name}; needed are CLIENT/CLASS/a.png"


def _folders(place: Path) -> list[Path]:
    """Folders in a folder, sorted; hidden ones are left out."""
    return sorted(
        x for x in place.iterdir() if x.is_dir() and not x.name.startswith(".")
    )


def _is_picture(file: Path, known: frozenset[str]) -> bool:
    right = file.suffix.lower() in known and not file.name.startswith(".")
    return right and file.is_file()


def _cut(pixels: np.ndarray, listed: list[list[_Found]]) -> list[np.ndarray]:
    """The rows of each part; none is copied."""
    return np.split(pixels, np.cumsum([len(part) for part in listed])[:-1])


def _rows(
    where: str, part: list[_Found], names: list[str], pixels: np.ndarray, owned: bool
) -> Rows:
    number = {name: i for i, name in enumerate(names)}
    labels = np.array([number[found.label] for found in part], np.int32)
    ids = np.array([found.client for found in part]) if owned else None
    return Rows(where, pixels, labels, ids, {})
