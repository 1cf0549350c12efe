"""Arrays of a tree to a folder and back, through Orbax.

Orbax gets a flat dictionary of numpy arrays by leaf number; the structure of the tree
stays with the caller. So empty parts of a tree, NamedTuples and arrays without
elements come back as they were, which Orbax alone would refuse or change.
Memory-mapped arrays and ``Rows`` are files of raw bytes beside it.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.clients.rows import Rows
from fedjax_compress.tree import paths
from fedjax_compress.typing import Tree

_ARRAYS, _MAPPED, _EMPTY = "arrays", "mapped", "empty"
_OVERHEAD = 2**18
"""Bytes that a checkpoint may take beside its arrays; measured: 60 kB or less."""
COPIED = 2**30
"""``Rows`` in memory of at most this many bytes in all are copied and written later.

Measured with two cores and a disk of 350 MB/s: 0.93 GiB are copied in 0.7 s, and
sealed after 4.5 s in the background. 1.9 GiB, too many to be held twice, keep the run
waiting for 5.5 s and are sealed after 7.7 s; so are as many in mapped files.
"""


def describe(tree: Tree) -> list[list[Any]]:
    """[path, shape, dtype, place] of every leaf, in tree order; JSON."""
    return [
        [path, list(np.shape(leaf)), _dtype(leaf).name, _place(leaf)]
        for path, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True)
    ]


def misfit(saved: list[list[Any]], like: Tree) -> str:
    """Which saved leaf is not as a tree has it, in words; empty if all are.

    Args:
      saved: ``describe`` of what was saved.
      like: ``Rows`` in it stand for any number of rows.
    """
    wanted = [leaf[:3] for leaf in describe(like)]
    for leaf, line in zip(jax.tree.leaves(like), wanted, strict=True):
        if isinstance(leaf, Rows):
            line[1][0] = "any"
    for one, other in itertools.zip_longest([x[:3] for x in saved], wanted):
        if not _fits(one, other):
            return f"it holds {_words(one)} where {_words(other)} is expected"
    return ""


def _fits(saved: list[Any] | None, wanted: list[Any] | None) -> bool:
    if saved is None or wanted is None or len(saved[1]) != len(wanted[1]):
        return False
    sizes = zip(saved[1], wanted[1], strict=True)
    same = all(b in ("any", a) for a, b in sizes)
    return same and (saved[0], saved[2]) == (wanted[0], wanted[2])


def _words(described: list[Any] | None) -> str:
    if described is None:
        return "nothing more"
    path, shape, dtype = described
    return f"{path or 'an array'} {dtype}[{', '.join(map(str, shape))}]"


def flat_arrays(tree: Tree) -> dict[str, np.ndarray]:
    """What Orbax gets of a tree: its arrays in memory, by leaf number."""
    leaves = list(enumerate(jax.tree.leaves(tree)))
    stored = [(i, leaf) for i, leaf in leaves if _place(leaf) == _ARRAYS]
    for _, leaf in stored:
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    return {_key(i): np.asarray(leaf) for i, leaf in stored}


def write_mapped(tree: Tree, folder: Path) -> Callable[[], None]:
    """Copies memory-mapped arrays and ``Rows`` from file to file, a block at a time.

    So are ``Rows`` in memory, if they are more than ``COPIED`` bytes together; fewer
    are copied in memory, and written when what is returned is called.
    """
    leaves = jax.tree.leaves(tree)
    copies: dict[Path, np.ndarray] = {}
    in_memory = [x for x in leaves if isinstance(x, Rows) and not x.mapped]
    few = sum(x.nbytes for x in in_memory) <= COPIED
    for i, leaf in enumerate(leaves):
        if _place(leaf) != _MAPPED:
            continue
        if isinstance(leaf, Rows) and not leaf.mapped and few:
            copies[folder / _file(i)] = np.asarray(leaf)
        else:
            pieces = leaf.pieces() if isinstance(leaf, Rows) else [leaf]
            _write_file(folder / _file(i), pieces)

    def finish() -> None:
        while copies:
            path, array = copies.popitem()
            _write_file(path, [array])

    return finish


def read(folder: Path, saved: list[list[Any]], like: Tree) -> Tree:
    """The arrays of ``folder`` in the structure of ``like``.

    Each leaf comes back as what stands in ``like``: a jax array on the same devices,
    a numpy array, a Python number. A memory-mapped leaf is filled in place. ``Rows``
    come back as many as were saved, and read their file when they are read.

    Args:
      folder: of a checkpoint.
      saved: ``describe`` of what was saved.
      like: fits what was saved.
    """
    leaves, structure = jax.tree.flatten(like)
    stored = [i for i, (*_, place) in enumerate(saved) if place == _ARRAYS]
    flat = _stored(folder, [_key(i) for i in stored]) if stored else {}
    filled = []
    for i, (leaf, (_, shape, _, place)) in enumerate(zip(leaves, saved, strict=True)):
        if place == _MAPPED:
            filled.append(_load(folder / _MAPPED / _file(i), shape, leaf))
        elif place == _ARRAYS:
            filled.append(_as(flat[_key(i)], leaf))
        else:
            filled.append(_as(np.zeros(shape, _dtype(leaf)), leaf))
    return jax.tree.unflatten(structure, filled)


def _stored(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    from fedjax_compress.runtime import orbax_files

    return orbax_files.read(folder, names)


def joined(all: list[Rows]) -> Rows:
    """The rows of one after those of the other, not copied."""
    pieces = [piece for rows in all for piece in rows.pieces()]
    row = np.zeros(all[0].shape[1:], all[0].dtype)
    count = sum(rows.shape[0] for rows in all)
    return Rows(pieces, count, row, any(rows.mapped for rows in all))


def check_space(folder: Path, tree: Tree) -> None:
    """Before the first byte: a write that fails half-way is noisy in Orbax.

    Raises:
      OSError: the disk has no room for the tree.
    """
    leaves = jax.tree.leaves(tree)
    needed = sum(np.size(x) * _dtype(x).itemsize for x in leaves) + _OVERHEAD
    total, _, free = shutil.disk_usage(folder)
    if total and free < needed:
        reason = f"{needed} bytes are needed, {free} are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {reason}")


def _write_file(path: Path, pieces: Iterable[np.ndarray]) -> None:
    # Not ndarray.tofile, which does not notice a full disk.
    with path.open("wb") as stream:
        for piece in pieces:
            stream.write(_bytes(piece))


def _place(leaf: Any) -> str:
    if _is_mapped(leaf) or (isinstance(leaf, Rows) and leaf.size):
        return _MAPPED
    return _ARRAYS if np.size(leaf) else _EMPTY


def _is_mapped(leaf: Any) -> bool:
    return isinstance(leaf, np.memmap) and leaf.flags.c_contiguous and leaf.size > 0


def _bytes(leaf: np.ndarray) -> memoryview:
    return leaf.reshape(-1).view(np.uint8).data


def _key(i: int) -> str:
    return f"{i:06d}"


def _file(i: int) -> str:
    return f"{_key(i)}.bin"


def _dtype(leaf: Any) -> np.dtype:
    return np.dtype(leaf.dtype) if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def _load(path: Path, shape: list[int], leaf: Any) -> Any:
    if isinstance(leaf, Rows):
        return _as(np.memmap(path, leaf.dtype, "r", shape=tuple(shape)), leaf)
    if not _is_mapped(leaf):
        return _as(np.fromfile(path, _dtype(leaf)).reshape(shape), leaf)
    with path.open("rb") as stream:
        stream.readinto(_bytes(leaf))
    return leaf


def _as(array: np.ndarray, leaf: Any) -> Any:
    if isinstance(leaf, Rows):
        row = np.zeros(leaf.shape[1:], leaf.dtype)
        mapped = isinstance(array, np.memmap)
        return Rows([np.asarray(array)], len(array), row, mapped)
    if isinstance(leaf, np.memmap):
        leaf[...] = array
        return leaf
    if isinstance(leaf, jax.Array):
        if leaf.committed:
            return jax.device_put(array, leaf.sharding)
        return jnp.asarray(array)
    if isinstance(leaf, (bool, int, float, np.generic)):
        return type(leaf)(array.item()) if not hasattr(leaf, "dtype") else array[()]
    return array
