"""Which files hold the rows to learn from, and which those to test on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from fedjax_compress.data.building import Names
from fedjax_compress.data.columns import find, shown
from fedjax_compress.data.parts import name_of
from fedjax_compress.errors import InputError

Paths = str | Names
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}


class Files(NamedTuple):
    """Files in the order of their rows.

    Attributes:
      name: what the data are called.
      train: with the rows to learn from, or with all.
      test: with those to test on; empty where nothing says which they are.
    """

    name: str
    train: tuple[Path, ...]
    test: tuple[Path, ...] = ()


def files_of(paths: Paths, endings: tuple[str, ...], source: str) -> Files:
    """The files of a path, several paths, or a folder.

    Args:
      paths: a file, several files in the order of their rows, or a folder, of which all
        files with one of the endings are taken by name. Where names say train and test,
        as in ``train-00000-of-00002.parquet``, the files are taken as those parts, and
        validation is left out; where all say the same, they are one part.
      endings: of the files in a folder.
      source: what reads them.

    Raises:
      InputError: a path that does not exist, a folder without such files, or one where
        only some names say a part.
    """
    if isinstance(paths, str):
        place = find(paths, "file or folder")
        if place.is_dir():
            return _in_folder(place, endings, source)
        return Files(name_of(paths), (place,))
    if not paths:
        raise InputError(f"{source} needs a path of a file or a folder")
    places = tuple(find(path, "file") for path in paths)
    for place in places:
        if place.is_dir():
            raise InputError(f"{place} is a folder; name it alone, or its files")
    return Files(name_of(paths[0]), places)


def test_files(found: Files) -> tuple[Path, ...]:
    """The files that are given as those to test on.

    Raises:
      InputError: some of them say that they are to learn from.
    """
    if found.test:
        raise InputError(
            f"test={found.name} holds both parts; give it as path, or name the files "
            "of its test part"
        )
    return found.train


def _in_folder(folder: Path, endings: tuple[str, ...], source: str) -> Files:
    """The files of a folder by name, in two parts where their names say which."""
    held = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    found = [p for p in held if p.name.lower().endswith(endings) and p.is_file()]
    name = folder.resolve().name
    if not found:
        kinds = " or ".join(f"*{ending}" for ending in endings)
        what = shown([p.name for p in held]) if held else "nothing"
        raise InputError(
            f"{folder} has no {kinds} for {source}; it holds {what}; name files with "
            "path=... and test=..."
        )
    parts: dict[str, list[Path]] = {}
    for file in found:
        parts.setdefault(_part(file), []).append(file)
    if len(parts) == 1:
        return Files(name, tuple(found))
    if "" in parts or "train" not in parts:
        raise InputError(
            f"{folder} holds {shown([p.name for p in found])}; if one name says "
            "train, test or validation, all must, and some train; name files with "
            "path=... and test=..."
        )
    return Files(name, tuple(parts["train"]), tuple(parts.get("test", ())))


def _part(file: Path) -> str:
    """The part that a file's name says; empty for none, or for several."""
    words = re.split(r"[^a-z]+", file.name.lower())
    found = {_SPLITS[word] for word in words if word in _SPLITS}
    return found.pop() if len(found) == 1 else ""
