"""Recordings in a folder of WAV files, with a table of what is said in them."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.data.speech.recordings import Recordings, as_samples, check_rate
from fedjax_compress.errors import InputError, one_line

TABLE = "table.csv"
_NEEDED = ("file", "transcript", "speaker")
_KNOWN = (*_NEEDED, "session", "test")


def read_folder(folder: Path, rate: int) -> Recordings:
    """The recordings that a folder's table names.

    Args:
      folder: holds WAV files, at any depth, and ``table.csv`` with the columns
        ``file`` (path inside the folder), ``transcript`` and ``speaker``, and, where
        known, ``session`` and ``test`` (1 for tests, else 0).
      rate: samples a second that all files must have.

    Raises:
      InputError: no table, a column too few or too many, a file that is not there or
        cannot be used.
    """
    rows = _table(folder / TABLE)
    seen: dict[Path, int] = {}
    for line, row in rows.items():
        where = f"{folder / TABLE}, line {line}"
        if not row["speaker"]:
            raise InputError(f"{where} has no speaker")
        if row.get("test", "0") not in ("0", "1"):
            raise InputError(
                f"{where}: test is {row['test']!r}, but must be 1 (for tests) or 0"
            )
        first = seen.setdefault(_inside(folder, row["file"], where), line)
        if first != line:
            raise InputError(f"{where} names {row['file']!r} again, as line {first}")
    found = list(rows.values())
    columns = found[0] if found else {}
    return Recordings(
        folder.resolve().name,
        [_samples(folder / row["file"], rate) for row in found],
        [tuple(row["transcript"].split()) for row in found],
        [row["speaker"] for row in found],
        np.arange(len(found)),
        [row["session"] for row in found] if "session" in columns else None,
        np.array([row["test"] == "1" for row in found]) if "test" in columns else None,
    )


def _inside(folder: Path, file: str, where: str) -> Path:
    """Where a file of the table lies, one path for each file however it is named."""
    try:
        found = (folder / file).resolve()
        exists = bool(file) and found.is_file()
    except OSError:  # a name too long
        exists = False
    if not exists:
        raise InputError(f"{where}: there is no file {file[:80]!r} in {folder}")
    if not found.is_relative_to(folder.resolve()):
        raise InputError(f"{where}: {file!r} lies outside {folder}")
    return found


def _table(file: Path) -> dict[int, dict[str, str]]:
    """The rows of the table by line."""
    if not file.is_file():
        raise InputError(
            f"{file.parent} has no {TABLE}; it names the recordings, one a line, under "
            f"{','.join(_NEEDED)}"
        )
    rows = {}
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            names = [name.strip() for name in next(reader, [])]
            _check_names(file, names)
            for row in reader:
                if row and len(row) != len(names):
                    raise InputError(
                        f"{file}, line {reader.line_num} has {len(row)} fields, but "
                        f"there are {len(names)} columns; quote texts with commas"
                    )
                if row:
                    texts = (text.strip() for text in row)
                    rows[reader.line_num] = dict(zip(names, texts, strict=True))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is no table of text (UTF-8): {error}") from None
    return rows


def _check_names(file: Path, names: list[str]) -> None:
    for name in names:
        if name not in _KNOWN:
            hint = registry.nearest(name, list(_KNOWN))
            raise InputError(f"{file} has an unknown column {name!r}; {hint}")
    if len(set(names)) < len(names):
        raise InputError(f"{file} names a column twice: {', '.join(names)}")
    for name in _NEEDED:
        if name not in names:
            raise InputError(
                f"{file} has no column {name!r}; needed are {', '.join(_NEEDED)}"
            )


def _samples(file: Path, rate: int) -> np.ndarray:
    """float32 [samples] of a WAV file."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # of chunks that hold no sound, mostly
            found, samples = wavfile.read(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # scipy raises what comes up inside, struct.error too
        kind = describe_kind(file)
        known = "looks like nothing" in kind
        why = one_line(error) if known else f"it {kind.split(';')[0]}"
        raise InputError(f"{file} cannot be read as WAV: {why}") from None
    if any("prematurely" in str(warning.message) for warning in caught):
        raise InputError(f"{file} is not whole: it ends before its samples do")
    check_rate(str(file), found, rate)
    return as_samples(samples, str(file))
