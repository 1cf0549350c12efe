"""Tables of Parquet and of Arrow, and data sets that Hugging Face's library saves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedjax_compress.data.columns import find, shown
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.data.tables.folders import Files, Paths, files_of
from fedjax_compress.data.tables.table import Table, flat, is_index
from fedjax_compress.errors import InputError, one_line

ENDINGS = (".parquet", ".parq")
_STATE, _SPLITS = "state.json", "dataset_dict.json"


def arrow_files_of(paths: Paths) -> Files:
    """The files of a path, several paths, a folder, or a saved data set.

    Raises:
      InputError: see ``folders.files_of``; a saved data set that is not whole.
    """
    if isinstance(paths, str):
        folder = find(paths, "file or folder")
        name = folder.resolve().name
        if (folder / _STATE).is_file():
            return Files(name, _saved(folder))
        if (folder / _SPLITS).is_file():
            return _in_splits(folder, name)
    return files_of(paths, ENDINGS, "parquet")


def _in_splits(folder: Path, name: str) -> Files:
    """The files of a saved dictionary of data sets, of which test may be missing."""
    splits = _json(folder / _SPLITS).get("splits")
    if not isinstance(splits, list) or "train" not in splits:
        raise InputError(
            f"{folder} has no split train, but {splits}; name the folder of one, as in "
            f"path='{folder}/...' and test='{folder}/...'"
        )
    test = _saved(folder / "test") if "test" in splits else ()
    return Files(name, _saved(folder / "train"), test)


def _saved(folder: Path) -> tuple[Path, ...]:
    """The files of a saved data set in the order of its rows."""
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise InputError(
            f"{folder} is saved with rows in another order; save it again after "
            "flatten_indices()"
        )
    try:
        names = [Path(str(file["filename"])).name for file in state["_data_files"]]
    except (KeyError, TypeError):
        raise InputError(f"{folder / _STATE} names no files") from None
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not whole: it has no {name}")
    if not names:
        raise InputError(f"{folder} has no rows")
    return tuple(folder / name for name in names)


def _json(file: Path) -> dict[str, Any]:
    """What a file of JSON says by name."""
    try:
        said = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{file} is no JSON; save the data set again") from None
    if not isinstance(said, dict):
        raise InputError(f"{file} holds no names; save the data set again")
    return said


def read_arrow(where: str, files: Sequence[Path], names: Sequence[str] = ()) -> Table:
    """The rows of some files, one after another.

    Args:
      where: what a message calls them.
      files: Parquet or Arrow.
      names: of columns that are needed, besides which others may be read; empty for
        all. Of files that lack one, all are read.

    Raises:
      InputError: a file that is neither, damage, or files with other columns.
    """
    import pyarrow

    tables = [_table(file, names) for file in files]
    try:
        whole = pyarrow.concat_tables(tables, promote_options="permissive")
        if len(tables) > 1:
            _check_alike(files, tables)
        columns = flat(whole)
    except pyarrow.ArrowException as error:
        raise InputError(f"{where}: files differ: {one_line(error)[:200]}") from None
    except InputError as error:
        raise InputError(f"{where} {error}") from None
    kept = {name: x for name, x in columns.items() if not is_index(name)}
    rows = [(str(f), table.num_rows) for f, table in zip(files, tables, strict=True)]
    return Table(where, tuple(rows), kept, _classes(tables[0].schema))


def _table(file: Path, names: Sequence[str]) -> Any:
    """A ``pyarrow.Table``; of Arrow, mapped into memory."""
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        with open(file, "rb") as opened:
            head = opened.read(6)
        if head.startswith(b"PAR1"):
            with parquet.ParquetFile(file) as source:
                return source.read(_needed(source.schema_arrow, names))
        if head == b"ARROW1":
            table = ipc.open_file(pyarrow.memory_map(str(file))).read_all()
        elif head.startswith(b"\xff\xff\xff\xff"):
            table = ipc.open_stream(pyarrow.memory_map(str(file))).read_all()
        else:
            why = describe_kind(file)
            raise InputError(f"{file} is neither Parquet nor Arrow: it {why}")
        table.validate(full=True)
        return table
    except (OSError, pyarrow.ArrowException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"{file} cannot be read: {error.strerror}") from None
        raise InputError(
            f"{file} is damaged or not whole: {one_line(error)[:200]}; save it again"
        ) from None


def _needed(schema: Any, names: Sequence[str]) -> list[str] | None:
    """Columns that hold what is needed; None for all."""
    held = {
        n: [top for top in schema.names if f"{n}.".startswith(f"{top}.")] for n in names
    }
    if not names or not all(held.values()):
        return None
    return sorted({top for tops in held.values() for top in tops})


def _check_alike(files: Sequence[Path], tables: list[Any]) -> None:
    """Raises InputError, without saying where, unless files have the same columns."""
    for file, table in zip(files, tables, strict=True):
        if other := set(table.column_names) ^ set(tables[0].column_names):
            raise InputError(
                f"must have the same columns in all files, but {file.name} and "
                f"{files[0].name} differ in {shown(sorted(other))}"
            )


def _classes(schema: Any) -> dict[str, int]:
    """How many classes a column has, of those that Hugging Face's library describes."""
    found: dict[str, int] = {}

    def visit(name: str, kind: Any) -> None:
        if not isinstance(kind, dict):
            return
        if kind.get("_type") == "ClassLabel":
            names = kind.get("names")
            count = len(names) if isinstance(names, list) else kind.get("num_classes")
            if isinstance(count, int):
                found[name] = count
        elif "_type" not in kind:
            for field, inner in kind.items():
                visit(f"{name}.{field}" if name else str(field), inner)

    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])
        visit("", said["info"]["features"])
    except (KeyError, TypeError, ValueError):
        return {}
    return found
