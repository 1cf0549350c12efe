"""HDF5 files: arrays by their paths, and TensorFlow Federated's groups of clients."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.columns import find, shown
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.data.stores.store import Piece, Store, texts
from fedjax_compress.errors import InputError, one_line

_CLIENTS = "examples"


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """The file, to be read only.

    Raises:
      InputError: no h5py, no such file, no HDF5, or damage that h5py finds.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(
            "HDF5 is read with h5py, which is not installed: "
            "pip install 'fedjax_compress[hdf5]'"
        ) from None
    file = find(path, "file")
    if file.is_dir():
        raise InputError(f"{path} is a folder, but hdf5 reads one file")
    try:
        if not h5py.is_hdf5(file):
            with open(file, "rb"):
                pass  # if it cannot be read, the system says why
            raise InputError(f"{path} is no HDF5 file: it {describe_kind(file)}")
        with h5py.File(file, "r") as whole:
            yield whole
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{path} cannot be read: {reason}") from None


def names_of(whole: Any) -> list[str]:
    """Paths of all arrays of a file, those nearer to its root first."""
    found: list[str] = []

    def note(name: str, item: Any) -> None:
        if hasattr(item, "dtype") and hasattr(item, "shape"):
            found.append(name)

    whole.visititems(note)
    return sorted(found, key=lambda name: (name.count("/"), name))


def array(whole: Any, name: str, where: str) -> np.ndarray:
    """An array: of numbers, or of texts as objects.

    Raises:
      InputError: no such array, or one of something else.
    """
    item = whole.get(name)
    if item is None:
        names = names_of(whole)
        hint = registry.nearest(name, names) if len(names) < 100 else shown(names)
        raise InputError(f"{where} has no array {name!r}; {hint}")
    if not hasattr(item, "dtype"):
        raise InputError(
            f"{where}: {name!r} is a group, not an array; it holds {shown(list(item))}"
        )
    return _read(item, f"{where}: array {name!r}")


def is_by_client(whole: Any) -> bool:
    """Whether a file has a group ``examples`` of groups, one for each client."""
    group = whole.get(_CLIENTS)
    if group is None or hasattr(group, "dtype"):
        return False
    return all(not hasattr(group.get(client), "dtype") for client in _first(group))


def clients(whole: Any, where: str) -> Store:
    """The rows of all clients in the order of their ids.

    Raises:
      InputError: no client.
    """
    group = whole[_CLIENTS]
    first = next(iter(_first(group)), None)
    if first is None:
        raise InputError(f"{where}: group {_CLIENTS} has no clients")
    names = list(group[first])
    rows = sum(_rows(group[client]) for client in group)

    def pieces(wanted: Sequence[str]) -> Iterator[Piece]:
        for client in group:
            said = f"{where}, client {client!r}"
            yield Piece(
                client, {name: array(group[client], name, said) for name in wanted}
            )

    return Store(where, rows, names, pieces)


def _rows(arrays: Any) -> int:
    """How many rows a client has: those of its first array with rows."""
    shapes = (getattr(item, "shape", None) for item in arrays.values())
    return next((shape[0] for shape in shapes if shape), 0)


def _first(group: Any) -> list[str]:
    """The first of the names of a group, which may have very many."""
    return list(itertools.islice(group, 1))


def _read(item: Any, what: str) -> np.ndarray:
    """Everything of an array in memory.

    Raises:
      InputError: records, references, or lists of unequal length.
    """
    import h5py

    if h5py.check_string_dtype(item.dtype) is not None:
        values = item[()]
        return texts(np.ravel(values).tolist()).reshape(np.shape(values))
    if item.shape is None or item.dtype.kind not in "biuf":
        kind = "nothing" if item.shape is None else str(item.dtype)
        raise InputError(f"{what} holds {kind}; only numbers and texts are read")
    values = np.asarray(item[()])
    return values.astype(values.dtype.newbyteorder("="), copy=False)
