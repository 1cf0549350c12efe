"""The seal of a folder: which files it holds, with sizes and checksums.

A folder is sealed when ``manifest.json`` stands in it. The manifest is written last,
after all other files have reached the disk, and by a rename, so that a killed process
leaves a folder without it. It carries a checksum of itself, and has exactly one
correct sequence of bytes: a flipped bit anywhere, even in white space, is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

NAME = "manifest.json"
FORMAT = 1


class Damaged(Exception):
    """A sealed folder is not what was sealed. The message says what is wrong."""


class Manifest(NamedTuple):
    """What a seal says.

    Attributes:
      round: number of finished rounds.
      fingerprint: what a run must have in common with this one to continue it.
      extra: whatever the caller wants back; JSON.
      leaves: [path, shape, dtype, place] of every array, in tree order.
      files: path relative to the folder -> [size in bytes, sha256].
    """

    round: int
    fingerprint: dict[str, Any]
    extra: dict[str, Any]
    leaves: list[list[Any]]
    files: dict[str, list[Any]]


def plain(value: Any) -> Any:
    """``value`` as it comes back from JSON: tuples are lists, keys are strings."""
    return json.loads(json.dumps(value))


def seal(
    folder: Path,
    round: int,
    fingerprint: dict[str, Any],
    extra: dict[str, Any],
    leaves: list[list[Any]],
    parts: Iterable[str] = (),
) -> None:
    """Writes the manifest of all files in ``folder``, once they are on the disk.

    Args:
      parts: folders inside that others have sealed; their checksums are taken over.

    Raises:
      Damaged: a part is not sealed.
    """
    sealed = [folder / part for part in parts]
    names = [p for p in folder.rglob("*") if p.is_file() and p.name != NAME]
    own = [p for p in names if not any(p.is_relative_to(part) for part in sealed)]
    files = {p: _settle(p) for p in own}
    for part in sealed:
        files |= {part / name: entry for name, entry in read(part).files.items()}
        files[part / NAME] = _settle(part / NAME)
    named = {p.relative_to(folder).as_posix(): files[p] for p in sorted(files)}
    text = _render(Manifest(round, fingerprint, extra, leaves, named))
    draft = folder / f"{NAME}.draft"
    with draft.open("wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(folder / NAME)
    _sync_folder(folder)
    _sync_folder(folder.parent)


def is_sealed(folder: Path) -> bool:
    """Whether a manifest stands in the folder; nothing is checked."""
    return (folder / NAME).is_file()


def read(folder: Path) -> Manifest:
    """The manifest of a folder, checked against its own checksum.

    Raises:
      Damaged: it is missing, or is not as it was written.
    """
    try:
        data = (folder / NAME).read_bytes()
        found = Manifest(**json.loads(data)["content"])
        intact = _render(found) == data
    except FileNotFoundError:
        raise Damaged(f"{NAME} is missing") from None
    except OSError as error:
        raise Damaged(f"{NAME} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        raise Damaged(f"{NAME} differs from its own checksum")
    return found


def verify(folder: Path) -> Manifest:
    """The manifest of a folder whose files are all as they were sealed.

    Raises:
      Damaged: the manifest or a file is missing, too short or long, or changed.
    """
    found = read(folder)
    for name, (size, digest) in found.files.items():
        path = folder / name
        try:
            actual = path.stat().st_size
            if actual != size:
                raise Damaged(f"{name} has {actual} bytes instead of {size}")
            with path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                    raise Damaged(f"{name} differs from its checksum")
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        except OSError as error:
            raise Damaged(f"{name} cannot be read: {error.strerror}") from None
    return found


def _render(manifest: Manifest) -> bytes:
    content = json.dumps(manifest._asdict(), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    head = json.dumps({"format": FORMAT, "sha256": digest})
    return f'{head[:-1]}, "content": {content}}}\n'.encode()


def _settle(path: Path) -> list[Any]:
    """Waits until a file is on the disk; its size and checksum."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return [stream.tell(), digest]


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
