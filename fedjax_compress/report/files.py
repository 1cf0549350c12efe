"""What a run keeps on disk: folders that are never mixed up, files that are whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedjax_compress.errors import InputError

CONFIG = "config.toml"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
CHECKPOINTS = "checkpoints"
PLOT = "report.png"
ROUND_PLOT = "round.png"
COMPARISON = "compare.json"
COMPARISON_PLOT = "compare.png"
GRID = "grid.toml"
GRID_RESULT = "grid.json"
GRID_PLOT = "grid.png"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file in one step: readers see the old or the new one, whole."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # a disk that is full does not say of which file
        if error.errno and not error.filename:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON in one step."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      InputError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def holds_run(folder: Path) -> bool:
    """Whether a folder holds anything of a run, finished or not."""
    names = (CONFIG, METRICS, SUMMARY, CHECKPOINTS)
    return any((folder / name).exists() for name in names)


def check_free(folder: Path) -> None:
    """Raises InputError unless a new run can be put into this folder."""
    if folder == Path():
        raise InputError("output is empty; give the name of a folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file; give a folder")
    if holds_run(folder):
        raise InputError(
            f"{folder} already holds a run; go on with: {resume_command(folder)}; "
            "or give another folder with --output"
        )
    if (folder / COMPARISON).exists():
        raise InputError(
            f"{folder} already holds a comparison; give another folder with --output"
        )
    check_no_grid(folder)


def check_no_grid(folder: Path) -> None:
    """Raises InputError where a folder holds a grid."""
    if (folder / GRID).exists():
        raise InputError(
            f"{folder} already holds a grid; go on with: {resume_command(folder)}; "
            "or give another folder with --output"
        )


def check_shared(folder: Path) -> None:
    """Raises InputError unless the run just begun in this folder can be seen."""
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder} is not there on {platform.node()}: the output folder must be on "
            "a file system that all processes share"
        )


def create(folder: Path) -> None:
    """Makes the folder and its parents.

    Raises:
      InputError: the system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the output folder {folder}: {error.strerror}"
        ) from None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """While this context is open, no other process works on the folder.

    The lock is on the folder itself and ends with the process, however it ends. Where
    the system has no such locks, nothing is held.

    Raises:
      InputError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise InputError(
                    f"another process is at work in {folder}; wait until it has ended"
                ) from None
        yield
    finally:
        os.close(handle)


def next_free(stem: str, parent: str | Path = "runs") -> Path:
    """Makes and returns the first of ``parent/stem-001``, ``-002``, ... not there."""
    create(Path(parent))
    number = 1
    while True:
        folder = Path(parent) / f"{stem}-{number:03d}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise InputError(
                f"cannot make the output folder {folder}: {error.strerror}"
            ) from None


def quoted(folder: Path) -> str:
    """The folder as a shell takes it."""
    return shlex.quote(str(folder))


def resume_command(folder: Path) -> str:
    """The command that goes on with the run in a folder."""
    return f"fedjax-compress resume {quoted(folder)}"


def plain_name(text: str) -> str:
    """A text as part of a file name: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.").lower() or "run"
