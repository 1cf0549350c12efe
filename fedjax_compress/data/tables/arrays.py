"""Columns of Arrow as arrays of numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from fedjax_compress.data.tables.pictures import decoded
from fedjax_compress.data.tables.table import Table, is_picture
from fedjax_compress.errors import InputError

Kind = Literal["number", "text", "array", "picture", "time", "other"]
_LARGEST = float(np.finfo(np.float32).max)
FILL = "fill it, or leave the row out"


def column_of(table: Table, name: str) -> Any:
    """A column as it is meant: categories and types of other libraries as stored."""
    import pyarrow

    column = table.column(name)
    if pyarrow.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if isinstance(column.type, pyarrow.FixedShapeTensorType):
        return column
    if isinstance(column.type, pyarrow.BaseExtensionType):
        storage = [chunk.storage for chunk in column.chunks]
        return pyarrow.chunked_array(storage, column.type.storage_type)
    return column


def kind_of(column: Any) -> Kind:
    """What stands in a column."""
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_null(kind):
        return "number"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or _is_view(kind):
        return "text"
    if is_list(kind) or isinstance(kind, pyarrow.FixedShapeTensorType):
        return "array"
    if is_picture(kind):
        return "picture"
    return "time" if types.is_temporal(kind) else "other"


def _is_view(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string_view(kind)


def is_list(kind: Any) -> bool:
    """Whether a type of Arrow is one of lists."""
    from pyarrow import types

    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def as_array(table: Table, name: str, cure: str = FILL) -> np.ndarray:
    """A column of numbers, of lists of them, or of pictures, [rows, ...].

    Raises:
      InputError: anything else, an empty cell, lists or pictures that differ in shape.
    """
    column = column_of(table, name)
    kind = kind_of(column)
    check_whole(table, name, column, cure)
    if kind == "number":
        return _numbers(column)
    if kind == "picture":
        return decoded(table, name, column)
    if kind == "array":
        return _arrays(table, name, column)
    raise InputError(f"{table.where}: column {name!r} is {what(column)}, not numbers")


def what(column: Any) -> str:
    """What stands in a column, as a message says it."""
    kind = kind_of(column)
    if kind == "text":
        return "text"
    if "binary" in str(column.type):
        return f"bytes ({column.type}), or text that is not UTF-8"
    return f"a time ({column.type})" if kind == "time" else str(column.type)


def check_whole(table: Table, name: str, column: Any, cure: str = FILL) -> None:
    """Raises InputError for the first empty cell, or number that is none (NaN)."""
    from pyarrow import compute, types

    missing = column.is_null()
    if types.is_floating(column.type):
        missing = compute.or_kleene(missing, compute.is_nan(column))
        missing = compute.fill_null(missing, True)
    row = compute.index(missing, True).as_py()
    if row >= 0:
        raise InputError(f"{table.place(row)}: column {name!r} is empty; {cure}")


def _numbers(column: Any) -> np.ndarray:
    from pyarrow import float64, types

    if types.is_decimal(column.type):
        column = column.cast(float64())
    return np.asarray(column.to_numpy())


def check_size(table: Table, name: str, values: np.ndarray) -> None:
    """Raises InputError for a number [rows] that float32 cannot hold."""
    if values.dtype.kind != "f":
        return
    wrong = ~np.isfinite(values)
    if values.dtype.itemsize > 4:
        wrong |= np.abs(values) > _LARGEST
    if wrong.any():
        row = int(wrong.argmax())
        why = "too large for float32" if np.isfinite(values[row]) else "not finite"
        raise InputError(
            f"{table.place(row)}: column {name!r} holds {values[row]}, which is {why}"
        )


def _arrays(table: Table, name: str, column: Any) -> np.ndarray:
    """Lists of equal length, within others or not, [rows, ...]."""
    import pyarrow

    start, found = 0, []
    for chunk in column.chunks:
        if not len(chunk):
            continue

        def place(row: int, start: int = start) -> str:
            return f"{table.place(start + row)}: column {name!r}"

        if isinstance(chunk.type, pyarrow.FixedShapeTensorType):
            found.append(chunk.to_numpy_ndarray())
        else:
            found.append(_nested(chunk, place))
        if found[-1].shape[1:] != found[0].shape[1:]:
            raise _ragged(place(0), found[-1].shape[1], found[0].shape[1])
        start += len(chunk)
    if not found:
        raise InputError(f"{table.where}: no rows")
    return np.concatenate(found)


def _nested(array: Any, place: Callable[[int], str]) -> np.ndarray:
    """Values of one chunk; ``place`` says where one of its rows stands."""
    from pyarrow import compute, types

    if array.null_count:
        row = compute.index(array.is_null(), True).as_py()
        raise InputError(f"{place(row)} holds an empty value; {FILL}")
    if is_list(array.type):
        counts = compute.list_value_length(array).to_numpy()
        count = int(counts[0]) if len(counts) else 0
        if (other := np.flatnonzero(counts != count)).size:
            raise _ragged(place(int(other[0])), counts[other[0]], count)
        inner = _nested(array.flatten(), lambda row: place(row // max(1, count)))
        return inner.reshape(len(array), count, *inner.shape[1:])
    kind = array.type
    if not (
        types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    ):
        raise InputError(f"{place(0)} holds lists of {kind}, not of numbers")
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _ragged(place: str, found: int, first: int) -> InputError:
    return InputError(
        f"{place} has a list of {found}, where the first has {first}; lists must have "
        "one length, but for tokens, text=NAME"
    )
