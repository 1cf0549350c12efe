"""Arrays of a tree to a folder and back, through Orbax.

Orbax gets a flat dictionary of numpy arrays by leaf number; the structure of the tree
stays with the caller. So empty parts of a tree, NamedTuples and arrays without
elements come back as they were, which Orbax alone would refuse or change.
Memory-mapped arrays and ``Rows`` are files of raw bytes beside it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
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
    """[path, shape, dtype] of every leaf, in tree order; JSON."""
    leaves = zip(paths(tree), jax.tree.leaves(tree), strict=True)
    return [[path, list(np.shape(leaf)), _dtype(leaf).name] for path, leaf in leaves]


def expect(like: Tree) -> list[list[Any]]:
    """As ``describe``, with "any" for the number of ``Rows``."""
    described = describe(like)
    for leaf, line in zip(jax.tree.leaves(like), described, strict=True):
        if isinstance(leaf, Rows):
            line[1][0] = "any"
    return described


def fits(saved: list[Any] | None, wanted: list[Any] | None) -> bool:
    """Whether a described leaf is as ``expect`` says."""
    if saved is None or wanted is None or len(saved[1]) != len(wanted[1]):
        return False
    sizes = zip(saved[1], wanted[1], strict=True)
    same = all(b in ("any", a) for a, b in sizes)
    return same and (saved[0], saved[2]) == (wanted[0], wanted[2])


def write(folder: Path, tree: Tree) -> tuple[list[list[Any]], Callable[[], None]]:
    """Copies the arrays of ``tree`` and begins to write them into ``folder``.

    Memory-mapped arrays and ``Rows`` go from file to file, a block at a time, before
    this returns. So do ``Rows`` in memory, if they are more than ``COPIED`` bytes
    together. All others are copied in memory.

    Args:
      folder: must not exist.
      tree: jax or numpy arrays, ``Rows`` and Python numbers.

    Returns:
      [path, shape, dtype, place] of every leaf, and a function that waits until
      everything is written, and raises what went wrong.
    """
    leaves = jax.tree.leaves(tree)
    places = [_place(leaf) for leaf in leaves]
    (folder / _MAPPED).mkdir(parents=True)
    _check_space(folder, sum(np.size(x) * _dtype(x).itemsize for x in leaves))
    for leaf in leaves:
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    flat: dict[str, np.ndarray] = {}
    copies: dict[Path, np.ndarray] = {}
    in_memory = [x for x in leaves if isinstance(x, Rows) and not x.mapped]
    few = sum(x.nbytes for x in in_memory) <= COPIED
    for i, (leaf, place) in enumerate(zip(leaves, places, strict=True)):
        if place == _MAPPED and isinstance(leaf, Rows) and not leaf.mapped and few:
            copies[_file(folder, i)] = np.asarray(leaf)
        elif place == _MAPPED:
            pieces = leaf.pieces() if isinstance(leaf, Rows) else [leaf]
            _write_file(_file(folder, i), pieces)
        elif place == _ARRAYS:
            flat[_key(i)] = np.asarray(leaf)
    stored = _store(folder, flat) if _ARRAYS in places else None

    def finish() -> None:
        try:
            while copies:
                path, array = copies.popitem()
                _write_file(path, [array])
        finally:
            if stored is not None:
                stored()

    described = zip(describe(tree), places, strict=True)
    return [[*leaf, place] for leaf, place in described], finish


def read(folder: Path, saved: list[list[Any]], like: Tree) -> Tree:
    """The arrays of ``folder`` in the structure of ``like``.

    Each leaf comes back as what stands in ``like``: a jax array on the same devices,
    a numpy array, a Python number. A memory-mapped leaf is filled in place. ``Rows``
    come back as many as were saved, and read their file when they are read.

    Args:
      folder: as written by ``write``.
      saved: what ``write`` has returned.
      like: fits what was saved.
    """
    leaves, structure = jax.tree.flatten(like)
    stored = [i for i, (*_, place) in enumerate(saved) if place == _ARRAYS]
    flat = _restore(folder, [_key(i) for i in stored]) if stored else {}
    filled = []
    for i, (leaf, (_, shape, _, place)) in enumerate(zip(leaves, saved, strict=True)):
        if place == _MAPPED:
            filled.append(_load(_file(folder, i), shape, leaf))
        elif place == _ARRAYS:
            filled.append(_as(flat[_key(i)], leaf))
        else:
            filled.append(_as(np.zeros(shape, _dtype(leaf)), leaf))
    return jax.tree.unflatten(structure, filled)


def _store(folder: Path, flat: dict[str, np.ndarray]) -> Callable[[], None]:
    """Begins to write arrays by Orbax; what is returned waits for the end of it."""
    import orbax.checkpoint as ocp

    silence = _Silence()
    logging.getLogger("absl").addFilter(silence)
    # A folder that cannot be made is an error here, not a long wait in the background.
    options = ocp.AsyncOptions(create_directories_asynchronously=False)
    how = _by_this_process()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=how)
    checkpointer = ocp.AsyncCheckpointer(
        handler, async_options=options, multiprocessing_options=how
    )

    def finish() -> None:
        with contextlib.closing(checkpointer):
            try:
                checkpointer.wait_until_finished()
            finally:
                logging.getLogger("absl").removeFilter(silence)

    try:
        # Orbax copies numpy arrays before this returns.
        checkpointer.save(folder / _ARRAYS, args=ocp.args.PyTreeSave(flat))
    except BaseException:
        with contextlib.suppress(Exception):
            finish()
        raise
    return finish


def _restore(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    silence = _Silence()
    logging.getLogger("absl").addFilter(silence)
    try:
        numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        wanted = dict.fromkeys(names, numpy)
        how = _by_this_process()
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=how)
        with ocp.Checkpointer(handler, multiprocessing_options=how) as checkpointer:
            args = ocp.args.PyTreeRestore(restore_args=wanted)
            flat: dict[str, np.ndarray] = checkpointer.restore(
                folder / _ARRAYS, args=args
            )
            return flat
    finally:
        logging.getLogger("absl").removeFilter(silence)


def _by_this_process() -> Any:
    """Orbax is to wait for no other process: each reads and writes for itself."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"own_{own}"
    )


def joined(all: list[Rows]) -> Rows:
    """The rows of one after those of the other, not copied."""
    pieces = [piece for rows in all for piece in rows.pieces()]
    row = np.zeros(all[0].shape[1:], all[0].dtype)
    count = sum(rows.shape[0] for rows in all)
    return Rows(pieces, count, row, any(rows.mapped for rows in all))


def _check_space(folder: Path, needed: int) -> None:
    """Before the first byte: a write that fails half-way is noisy in Orbax."""
    needed += _OVERHEAD
    total, _, free = shutil.disk_usage(folder)
    if total and free < needed:
        reason = f"{needed} bytes are needed, {free} are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {reason}")


class _Silence(logging.Filter):
    """Drops what Orbax logs: its failures are raised, and shown as one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname


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


def _file(folder: Path, i: int) -> Path:
    return folder / _MAPPED / f"{_key(i)}.bin"


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
