"""Clients as they were measured: rows of a table, one for each client."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedjax_compress.clock.activity import Activity
from fedjax_compress.clock.clock import Draw, Part
from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest, register

_UNITS = {
    "down": 1e6,
    "up": 1e6,
    "latency": 1e-3,
    "gflops": 1e9,
    "row_ms": 1e-3,
    "period": 1.0,
}
_COLUMNS = (*_UNITS, "active")
_LONGEST = 2**26
"""Characters of one value: a million intervals."""
_MOST = 1e15
"""Seconds of an interval's end."""
Away = Literal["lost", "pauses", "ignored"]
_NUMBER = r"((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_INTERVAL = re.compile(f"{_NUMBER}-{_NUMBER}")


@register("clock")
def trace(path: str, repeat: bool = False, away: Away = "lost") -> Part:
    """Measured clients, a row each in a CSV or Parquet file: trace('phones.csv').

    Row i, from 0, is client i. Columns, all but one of them as you have them::

        down, up    Mbit/s (both or none)
        latency     milliseconds, once a round (0 if absent)
        gflops      GFLOP/s while training, as in ``devices``
        row_ms      milliseconds of training for one row, instead of or besides gflops
        active      intervals in seconds, as in 0-3600 7200-9000; empty: always there
        period      seconds after which they repeat (the last end in the file if absent)
        client      names, which are not used, or 0, 1, 2, ... in this order

    Args:
      path: of the file, in quotes.
      repeat: more clients than rows begin again with the first; else they are refused.
      away: what becomes of a client that leaves before it has reported: its work is
        lost, or pauses until it is back; ignored: intervals are not used.

    Raises:
      InputError: no such file or column, a value that is no number or not above 0,
        intervals that do not rise, or too few rows.
    """
    if away not in ("lost", "pauses", "ignored"):
        raise InputError(f"away must be lost, pauses or ignored, not {away!r}")
    rows = _read(path)
    if "client" in rows:
        _check_clients(path, rows.pop("client"))
    known = [name for name in _COLUMNS if name in rows]
    size = len(rows[known[0]])
    found: Part = {}
    each = {name: _numbers(path, rows, name) for name in _UNITS if name in rows}
    if "down" in each or "latency" in each:
        free = np.full(size, np.inf)
        down, up = each.get("down", free), each.get("up", free)
        links = np.column_stack([down, up, each.get("latency", np.zeros(size))])
        found["network"] = _drawn(path, links, repeat)
    if "gflops" in each:
        found["devices"] = _drawn(path, each["gflops"], repeat)
    if "row_ms" in each:
        found["rows"] = _drawn(path, each["row_ms"], repeat)
    if "active" in rows and away != "ignored":
        times = each.get("period")
        found["activity"] = _activity(path, rows["active"], times, away, repeat)
    return found


def _check_clients(path: str, names: list[Any]) -> None:
    """Raises InputError where numbers of clients are not those of their rows."""
    told = [str(name).strip() for name in names]
    if not all(name.isdecimal() for name in told):
        return  # names
    for i, name in enumerate(told):
        if name != str(i):
            raise InputError(
                f"{path}: row {i} is client {i}, and its column client says {name}; "
                "sort the rows, or leave that column out"
            )


def _drawn(path: str, values: np.ndarray, repeat: bool) -> Draw:
    def draw(seed: int, clients: int) -> np.ndarray:
        if clients > len(values) and not repeat:
            raise InputError(
                f"clock: {path} has {len(values)} clients and the run {clients}; "
                "give more rows, or repeat=true to begin again with the first"
            )
        return values[np.arange(clients) % len(values)]

    return draw


def _read(path: str) -> dict[str, list[Any]]:
    """Columns by name."""
    place = Path(path)
    if not place.is_file():
        raise InputError(f"there is no file {path}")
    if place.suffix == ".parquet":
        found = _parquet(place)
    elif place.suffix == ".csv":
        found = _csv(place)
    else:
        raise InputError(f"{path} must end in .csv or .parquet")
    for name in found:
        if name not in (*_COLUMNS, "client"):
            hint = nearest(name, [*_COLUMNS, "client"])
            raise InputError(f"{path} has an unknown column {name!r}; {hint}")
    if not set(found) & set(_COLUMNS):
        raise InputError(f"{path} has none of the columns {', '.join(_COLUMNS)}")
    if ("down" in found) != ("up" in found):
        raise InputError(f"{path} has one of the columns down and up; give both")
    if not found[next(iter(found))]:
        raise InputError(f"{path} has no rows")
    return found


def _csv(path: Path) -> dict[str, list[Any]]:
    try:
        csv.field_size_limit(_LONGEST)
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream)
            names = [name.strip() for name in next(lines, [])]
            # A blank line of a single column is an empty value of it.
            each = [(lines.line_num, line or [""]) for line in lines]
            table = [x for x in each if x[1] != [""] or len(names) == 1]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from None
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path} has two columns {twice!r}")
    for number, line in table:
        if len(line) != len(names):
            raise InputError(
                f"{path}, line {number}: {len(line)} values in {len(names)} columns"
            )
    return {name: [line[i] for _, line in table] for i, name in enumerate(names)}


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"{path}: pyarrow is not installed; pip install pyarrow, or give a CSV file"
        ) from None
    try:
        read: Callable[..., Any] = parquet.read_table
        return dict(read(path).to_pydict())
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as Parquet: {reason}") from None


def _numbers(path: str, rows: dict[str, list[Any]], name: str) -> np.ndarray:
    """A column in base units, float64."""
    least = 0.0 if name in ("latency", "row_ms") else math.ulp(0.0)
    try:
        found = np.array([float(x) for x in rows[name]])
    except (TypeError, ValueError):
        wrong = next(x for x in rows[name] if not _is_number(x))
        raise InputError(f"{path}: {name} must be numbers, not {wrong!r}") from None
    most = math.inf if name in ("down", "up", "gflops") else np.finfo(float).max
    bad = np.flatnonzero(~((found >= least) & (found <= most)))
    if len(bad):
        words = "at least 0" if not least else "above 0"
        words += " and finite" if found[bad[0]] > most else ""
        raise InputError(
            f"{path}: {name} must be {words}, not {found[bad[0]]:g} (client {bad[0]})"
        )
    return found * _UNITS[name]


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _activity(
    path: str, texts: list[Any], period: np.ndarray | None, away: Away, repeat: bool
) -> Activity:
    each = [_intervals(path, i, text) for i, text in enumerate(texts)]
    most = max(1, *(len(one) for one in each))
    table = np.full((len(each), most, 2), np.inf)
    for row, one in zip(table, each, strict=True):
        row[: len(one)] = np.reshape(one, (-1, 2))
    ends = np.array([one[-1][1] if one else 0.0 for one in each])
    if period is None:
        period = np.full(len(each), ends.max() or 1.0)
    if (bad := np.flatnonzero(ends > period)).size:
        raise InputError(
            f"{path}: client {bad[0]} is active until {ends[bad[0]]:g}, after its "
            f"period of {period[bad[0]]:g} seconds"
        )
    starts, stops = table[:, :, 0], table[:, :, 1]
    return Activity(starts, stops, period, away == "pauses", repeat)


def _intervals(path: str, client: int, text: Any) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for word in ("" if text is None else str(text)).split():
        match = _INTERVAL.fullmatch(word)
        if match is None:
            raise InputError(
                f"{path}: active of client {client} must be intervals in seconds, as "
                f"in 0-3600 7200-9000, not {word!r}"
            )
        start, end = float(match[1]), float(match[2])
        if not start < end <= _MOST or (found and start < found[-1][1]):
            raise InputError(
                f"{path}: active of client {client}: intervals must rise and not "
                f"overlap, and {word} does not"
            )
        if found and start == found[-1][1]:
            start = found.pop()[0]
        found.append((start, end))
    return found
