"""The seal of a checkpoint: which files it holds, with sizes and checksums.

Orbax restores a changed byte as if nothing were, so ``manifest.json`` lies beside its
files. It is written when all others have reached the disk, before the folder gets its
name. It carries a checksum of itself, and has exactly one correct sequence of bytes: a
flipped bit anywhere, even in white space, is noticed.
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


def seal(folder: Path, what: Manifest, unread: Iterable[str] = ()) -> None:
    """Writes the manifest of all files in ``folder``, once they are on the disk.

    Args:
      what: with files of other folders, which are sealed already.
      unread: files that may change; nobody reads them.
    """
    left_out = {folder / name for name in (NAME, *unread)}
    own = sorted(p for p in folder.rglob("*") if p.is_file() and p not in left_out)
    files = {p.relative_to(folder).as_posix(): _settle(p) for p in own}
    draft = folder / f"{NAME}.draft"
    with draft.open("wb") as stream:
        stream.write(_render(what._replace(files=files | what.files)))
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(folder / NAME)
    _sync_folder(folder)


def entries(folder: Path, prefix: str) -> dict[str, list[Any]]:
    """The files of a sealed folder, its manifest among them, under names with a prefix.

    Raises:
      Damaged: it is not sealed.
    """
    files = read(folder).files | {NAME: _settle(folder / NAME)}
    return {f"{prefix}/{name}": entry for name, entry in files.items()}


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


def differences(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, entry by entry."""
    was, now = _flat(was), _flat(now)
    return [
        f"{key} was {was.get(key, 'absent')!r}, now {now.get(key, 'absent')!r}"
        for key in sorted({*was, *now})
        if key not in was or key not in now or was[key] != now[key]
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dictionaries inside become names with dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


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
