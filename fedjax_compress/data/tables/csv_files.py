"""Tables of text: files of lines, read by pyarrow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_compress.data.columns import shown
from fedjax_compress.data.kinds import describe_kind, is_table
from fedjax_compress.data.tables.table import Table, flat, is_index
from fedjax_compress.errors import InputError, one_line

_Columns = dict[str, Any]
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_HEAD = 2**16
_BLOCK = 2**24
_EXACT = 2**53
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"(\xb5/\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_COMMA = re.compile(r"[+-]?\d+,\d+")
_POINT = re.compile(r"[+-]?\d*\.\d+")


def read_csv(
    parts: list[tuple[str, tuple[Path, ...]]], delimiter: str, client: str
) -> list[Table]:
    """Parts of a table, whose columns have the same type in all files.

    Args:
      parts: of each what a message calls it, and its files.
      delimiter: between the columns: ``auto`` for what stands most often in the first
        line, a comma, a semicolon or a tab; ``tab``; or a character.
      client: column of ids, which become text where as numbers they were not exact.

    Raises:
      InputError: a file that is no such table, or files with other columns.
    """
    if delimiter not in ("auto", "tab") and len(delimiter.encode()) != 1:
        raise InputError(f"delimiter must be auto, tab or a character: {delimiter!r}")
    opened = [[_opened(path, delimiter) for path in paths] for _, paths in parts]
    read = [[(file, _read(file, {})) for file in files] for files in opened]
    for files in read:
        _check_alike(files)
    together = [pair for files in read for pair in files]
    for name in sorted({name for _, columns in together for name in columns}):
        _make_alike(together, name, name == client)
    return [_joined(where, f) for (where, _), f in zip(parts, read, strict=True)]


class _File(NamedTuple):
    """One file, and how it is written.

    Attributes:
      path: where it lies.
      packed: how it is compressed; None if it is not.
      delimiter: between columns.
      decimal: before the digits of a fraction.
    """

    path: Path
    packed: str | None
    delimiter: str
    decimal: str


def _opened(path: Path, delimiter: str) -> _File:
    """A file, of which the beginning says how it is written.

    Raises:
      InputError: no table of text.
    """
    packed = _packed(path)
    head = _head(path, packed)
    line = _QUOTED.sub("", head.lstrip("\r\n").split("\n")[0])
    if delimiter == "auto":
        delimiter = max(",;\t", key=line.count)
    delimiter = "\t" if delimiter == "tab" else delimiter
    cells = re.split(f"[{re.escape(delimiter)}\r\n]", head)
    commas = any(_COMMA.fullmatch(cell) for cell in cells)
    points = any(_POINT.fullmatch(cell) for cell in cells)
    with_comma = delimiter != "," and commas and not points
    return _File(path, packed, delimiter, "," if with_comma else ".")


def _head(path: Path, packed: str | None) -> str:
    """How a file begins.

    Raises:
      InputError: not like a table of text.
    """
    import pyarrow

    try:
        with pyarrow.input_stream(path, compression=packed) as stream:
            head = stream.read(_HEAD)
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from None
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{path} is UTF-16; save it as UTF-8")
    if not is_table(head):
        why = "what is packed in it is none" if packed else f"it {describe_kind(path)}"
        raise InputError(f"{path} is no CSV: {why}")
    return head.decode("utf-8-sig", errors="replace")


def _read(file: _File, types: dict[str, Any]) -> _Columns:
    """The columns that have a name, of these types or as they look.

    Raises:
      InputError: lines that do not fit each other, no names, or one name twice.
    """
    try:
        table = _parsed(file, types, threads=True)
    except InputError:  # read in order, the reason says where
        table = _parsed(file, types, threads=False)
    try:
        names = [name.strip() for name in table.column_names]
    except UnicodeDecodeError:
        raise InputError(f"{file.path} is not UTF-8; save it as UTF-8") from None
    kept = [i for i, name in enumerate(names) if not is_index(name)]
    if kept and all(map(_is_number, names)):
        raise InputError(
            f"{file.path}: the first line holds numbers ({shown(names)}); write names "
            "of the columns above them"
        )
    try:
        return flat(table.select(kept).rename_columns([names[i] for i in kept]))
    except InputError as error:
        raise InputError(f"{file.path} {error}") from None


def _parsed(file: _File, types: dict[str, Any], threads: bool) -> Any:
    """A ``pyarrow.Table``; an empty cell is null, a quoted one is text."""
    import pyarrow
    from pyarrow import csv

    read = csv.ReadOptions(use_threads=threads, block_size=_BLOCK)
    parse = csv.ParseOptions(delimiter=file.delimiter, newlines_in_values=True)
    convert = csv.ConvertOptions(
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        decimal_point=file.decimal,
    )
    try:
        with pyarrow.input_stream(file.path, compression=file.packed) as stream:
            return csv.read_csv(stream, read, parse, convert)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise _unreadable(file.path, error) from None


def _packed(path: Path) -> str | None:
    """How a file is compressed."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise _unreadable(path, error) from None
    return next((v for k, v in _PACKED.items() if head.startswith(k)), None)


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or one_line(error)
    return InputError(f"{path} cannot be read: {reason[:200]}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_alike(files: list[tuple[_File, _Columns]]) -> None:
    """Raises InputError unless all files of a part have the same columns."""
    first, names = files[0]
    for file, columns in files[1:]:
        if other := set(columns) ^ set(names):
            raise InputError(
                f"{file.path} and {first.path} must have the same columns; only one "
                f"has {shown(sorted(other))}"
            )


def _make_alike(
    files: list[tuple[_File, _Columns]], name: str, is_client: bool
) -> None:
    """Gives a column the same type in all files that have it: numbers, or else text."""
    import pyarrow
    from pyarrow import types

    having = [(file, columns) for file, columns in files if name in columns]
    kinds = {columns[name].type for _, columns in having} - {pyarrow.null()}
    numbers = all(types.is_integer(k) or types.is_floating(k) for k in kinds)
    inexact = is_client and any(_is_inexact(columns[name]) for _, columns in having)
    if len(kinds) < 2 and not inexact:
        wanted = next(iter(kinds), pyarrow.null())
    else:
        wanted = pyarrow.string() if inexact or not numbers else pyarrow.float64()
    for file, columns in having:
        found = columns[name]
        if types.is_null(found.type) or wanted == pyarrow.float64():
            columns[name] = found.cast(wanted, safe=False)
        elif found.type != wanted:
            columns[name] = _read(file, {name: wanted})[name]


def _is_inexact(column: Any) -> bool:
    """Whether ids are numbers that are not whole, or too large to be exact."""
    from pyarrow import compute, types

    if not types.is_floating(column.type):
        return False
    whole = compute.equal(column, compute.round(column))
    small = compute.less(compute.abs(column), _EXACT)
    return not compute.all(compute.and_(whole, small)).as_py()


def _joined(where: str, files: list[tuple[_File, _Columns]]) -> Table:
    """The rows of some files one after another."""
    import pyarrow

    first = files[0][1]
    if not first:
        raise InputError(f"{where} has no column with a name")
    columns = {
        name: pyarrow.chunked_array(
            [chunk for _, columns in files for chunk in columns[name].chunks], like.type
        )
        for name, like in first.items()
    }
    rows = [(str(f.path), len(next(iter(c.values())))) for f, c in files]
    return Table(where, tuple(rows), columns, {})
