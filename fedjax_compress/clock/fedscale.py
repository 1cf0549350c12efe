"""FedScale's two files of measured clients, as a table that ``trace`` reads.

Run it with ``python -m fedjax_compress.clock.fedscale CAPACITY [AVAILABILITY] OUTPUT``.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fedjax_compress.clock.plain_pickle import read_plain_pickle
from fedjax_compress.errors import InputError

_PASSES = 3
"""Milliseconds of training for one of inference, as FedScale reckons."""
_MOST = 1e300
_USAGE = "python -m fedjax_compress.clock.fedscale CAPACITY [AVAILABILITY] OUTPUT"
Row = list[Any]


def convert_fedscale(capacity: str, availability: str | None, output: str) -> int:
    """Writes a CSV for ``trace``: down, up, row_ms, and active and period if given.

    Rates are the bandwidth, kbit/s / 1000, both ways; a row takes 3 * computation
    milliseconds of training; there is no latency. Nothing in the files is run.

    Intervals are ``active[i]`` to ``inactive[i]``, cut at ``finish_time``, after which
    they repeat. One without an end lasts until then, an end without a beginning is left
    out, and so is an interval that ends before it begins (FedScale never sees a client
    in it). They are sorted, and joined where they touch. A client without any is left
    out.

    Row i is entry i of each file, in the file's order, modulo the file's length; there
    are as many as the longer file has.

    Args:
      capacity: pickled dict, id -> computation (ms of inference for one sample),
        communication (kbit/s).
      availability: pickled dict, id -> active, inactive (lists of seconds),
        finish_time (seconds); None for clients that are always there.
      output: path of the CSV file.

    Returns:
      The number of rows.

    Raises:
      InputError: a file that is no pickle of plain data, or not of this form, or an
        output that cannot be written.

    Deviations: FedScale divides bytes by 1024 / 8 and calls them kbit, so the same
    message takes 1.024 times as long here, and it counts every message as the whole
    model. It pairs its client k, from 1, with id k of the first file and, from 0, with
    entry k of the second, and only asks whether a client is there when its work begins
    and when it ends.
    """
    if not output.endswith(".csv"):
        raise InputError(f"{output} must end in .csv")
    devices = [_device(capacity, *one) for one in _entries(capacity)]
    names, each = ["down", "up", "row_ms"], [devices]
    if availability is not None:
        found = [_times(availability, *one) for one in _entries(availability)]
        each.append([times for times in found if times[0]])
        names += ["active", "period"]
        if not each[1]:
            raise InputError(f"{availability}: no client is ever there")
    number = max(map(len, each))
    try:
        with open(output, "w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(names)
            for i in range(number):
                table.writerow([x for rows in each for x in rows[i % len(rows)]])
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from None
    return number


def _entries(path: str) -> list[tuple[Any, dict[str, Any]]]:
    """Clients with what is said of each."""
    found = read_plain_pickle(path)
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} must hold a dict of clients, and holds none")
    for client, said in found.items():
        if not isinstance(said, dict):
            raise InputError(
                f"{path}: client {_shown(client)} must have a dict of values"
            )
    return list(found.items())


def _device(path: str, client: Any, said: dict[str, Any]) -> Row:
    who = f"{path}: client {_shown(client)}"
    rate = _number(who, "communication", said.get("communication"))
    computing = _number(who, "computation", said.get("computation"))
    if not rate > 0 or computing < 0:
        raise InputError(
            f"{who}: communication must be above 0 and computation at least 0, not "
            f"{rate:g} and {computing:g}"
        )
    return [rate / 1000, rate / 1000, _PASSES * computing]


def _times(path: str, client: Any, said: dict[str, Any]) -> Row:
    """Intervals as ``trace`` reads them, and their period."""
    who = f"{path}: client {_shown(client)}"
    period = _number(who, "finish_time", said.get("finish_time"))
    if not period > 0:
        raise InputError(f"{who}: finish_time must be above 0, not {period:g}")
    starts, ends = (_numbers(who, x, said.get(x)) for x in ("active", "inactive"))
    ends += [period] * (len(starts) - len(ends))
    joined: list[list[float]] = []
    for start, end in sorted(zip(starts, ends, strict=False)):
        start, end = max(0, start), min(end, period)
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end])
    return [" ".join(f"{start}-{end}" for start, end in joined), period]


def _numbers(who: str, name: str, values: Any) -> list[float]:
    if not isinstance(values, (list, tuple)):
        raise InputError(f"{who}: {name} must be a list of seconds")
    return [_number(who, name, value) for value in values]


def _shown(value: Any, how: Callable[[Any], str] = repr) -> str:
    """A value of a file, however odd, in a few characters."""
    try:
        return how(value)[:40]
    except (ValueError, RecursionError):
        return f"{type(value).__name__} too long to show"


def _number(who: str, name: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < _MOST:
        raise InputError(f"{who}: {name} must be a number, not {_shown(value, str)!r}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Converts the files that the command line names; 2 if it cannot."""
    given = list(sys.argv[1:] if argv is None else argv)
    if len(given) not in (2, 3) or any(word.startswith("-") for word in given):
        print(f"usage: {_USAGE}", file=sys.stderr)
        return 2
    try:
        number = convert_fedscale(given[0], given[1] if given[2:] else None, given[-1])
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{number} clients in {given[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
