"""The record of every round: one line of JSON each, never twice, never missing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from fedjax_compress.errors import InputError
from fedjax_compress.report.files import write_atomically

Record = dict[str, Any]
CLOCK = ("seconds", "clients_per_second")
"""The only entries of a record that depend on the clock."""


def clean(value: Any) -> Any:
    """Plain JSON values: numbers that are not finite become None, arrays numbers."""
    if isinstance(value, dict):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_line(record: Record) -> str:
    """A record as one line of JSON with sorted keys."""
    return json.dumps(clean(record), sort_keys=True, allow_nan=False) + "\n"


def read(path: Path) -> list[Record]:
    """All whole records of a file; a last line cut off in writing is left out.

    Raises:
      InputError: the file cannot be read, or a line is not the record of the round
        after the one before it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"cannot read {path}: {reason}") from None
    records: list[Record] = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            record = json.loads(line)
            right = record["round"] == number
        except (ValueError, TypeError, KeyError):
            right = False
        if not right:
            raise InputError(f"{path}: line {number} is not the record of its round")
        records.append(record)
    return records


class Writer:
    """Appends records to a file, each flushed before the next round starts.

    Invariant: line i of the file is the record of round i.

    Args:
      path: the file.
      after: number of rounds to keep; later lines are cut off first, since these
        rounds are computed again.

    Raises:
      InputError: the file holds fewer rounds than ``after``.
    """

    def __init__(self, path: Path, after: int = 0):
        self.records = read(path)[:after] if path.exists() else []
        if len(self.records) < after:
            raise InputError(
                f"{path} ends at round {len(self.records)}, before the checkpoint of "
                f"round {after}: lines have been lost"
            )
        write_atomically(path, "".join(to_line(r) for r in self.records))
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: Record) -> None:
        """Writes the record of the next round."""
        expected = len(self.records) + 1
        if record["round"] != expected:
            raise ValueError(f"round {record['round']} where {expected} is next")
        line = to_line(record)
        self._file.write(line)
        self._file.flush()
        self.records.append(json.loads(line))

    def sync(self) -> None:
        """Waits until what was written is on the disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


class Memory:
    """Records of a process that writes no file; used like ``Writer``."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        """Keeps the record."""
        self.records.append(record)

    def sync(self) -> None:
        """Nothing is waited for."""

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *error: object) -> None:
        pass
