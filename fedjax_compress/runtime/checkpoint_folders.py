"""How the folders of checkpoints are called, found and removed."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from pathlib import Path

from fedjax_compress.runtime import manifest

_NAME = re.compile(r"\d{8,}")
_PART, _FAILED = "part-", ".failed"
_PAUSE = 0.02


def name(round: int) -> str:
    """Of the folder of a round."""
    return f"{round:08d}"


def part(process: int) -> str:
    """Of the folder in which a process other than 0 keeps its own."""
    return f"{_PART}{process:04d}"


def parts(files: list[str]) -> list[str]:
    """Those of other processes that a manifest with these files takes in."""
    end = f"/{manifest.NAME}"
    seals = sorted(f for f in files if f.startswith(f"../{_PART}") and f.endswith(end))
    return [seal.removesuffix(end) for seal in seals]


def named(folder: Path) -> list[Path]:
    """All checkpoints in a folder, newest first; unverified."""
    found = [p for p in _begun(folder) if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name), reverse=True)


def _begun(folder: Path) -> list[Path]:
    """These, and those that have not got their name yet."""
    try:
        return sorted(p for p in folder.iterdir() if _NAME.match(p.name))
    except OSError:
        return []


def none_usable(folder: Path, damage: list[str]) -> str:
    """Why there is none to go on from, in a line."""
    if damage:
        reason = f"all are damaged ({'; '.join(damage)})"
    elif begun := _begun(folder):
        names = ", ".join(p.name for p in begun)
        reason = f"none was written to its end ({names})"
    elif folder.is_dir():
        reason = "the folder holds none"
    else:
        reason = "there is no such folder"
    return f"no usable checkpoint in {folder}: {reason}"


def remove(folder: Path) -> None:
    """Without its seal, a half-removed one is not taken for a damaged one."""
    (folder / manifest.NAME).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_draft(folder: Path) -> None:
    """Removes a part of a checkpoint, in which other threads may still be writing.

    What stays after five seconds is removed when the next one is written.
    """
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def remove_round(folder: Path, round: int) -> None:
    """Removes what there is of a round, of all processes."""
    for own in (folder, *folder.glob(f"{_PART}*")):
        remove(own / name(round))
        (own / f"{name(round)}{_FAILED}").unlink(missing_ok=True)


def tell_failure(folder: Path, round: int, reason: str) -> None:
    """Has ``wait_for`` know that a process does not write its part."""
    with contextlib.suppress(OSError):
        (folder / f"{name(round)}{_FAILED}").write_text(reason)


def wait_for(folder: Path) -> None:
    """Returns when a folder of another process has its name.

    Raises:
      OSError: it will not get it.
    """
    failed = folder.with_name(folder.name + _FAILED)
    while not manifest.is_sealed(folder):
        if failed.exists():
            raise OSError(f"{folder.parent.name}: {failed.read_text()}")
        time.sleep(_PAUSE)


def remove_parts(folder: Path, processes: int) -> None:
    """Removes what processes that are gone have left of rounds that are gone."""
    for own in folder.glob(f"{_PART}*"):
        if int(own.name.removeprefix(_PART)) >= processes:
            for left in own.iterdir():
                if not (folder / left.name).exists():
                    remove(left) if left.is_dir() else left.unlink()
