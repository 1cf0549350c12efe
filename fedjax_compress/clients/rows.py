"""An array whose number of rows grows, in blocks that are never moved."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_compress.errors import InputError

_ALIGNED = 64
"""Bytes; what jax wants of an array that it is to use without copying it."""


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array not filled that begins at a multiple of 64 bytes.

    The CPU backend of jax takes such an array as it is, without a copy.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    stretch = np.empty(size + _ALIGNED, np.uint8)
    start = -stretch.ctypes.data % _ALIGNED
    return stretch[start : start + size].view(dtype).reshape(shape)


class Rows:
    """An array [count, ...] in pieces; another time it has another count.

    A leaf of a tree, for what is too large to be joined or copied without need:
    ``np.asarray`` joins the pieces into a new array. In the tree that a checkpoint is
    compared with, it stands for any number of rows. The count stays as it was made;
    the values are those of the pieces, which may change.

    Attributes:
      shape: (count, ...).
      dtype: numpy dtype.
      mapped: whether the pieces lie in a file and not in memory.
    """

    def __init__(
        self,
        pieces: Sequence[np.ndarray],
        count: int,
        row: np.ndarray,
        mapped: bool = False,
    ) -> None:
        """The first ``count`` rows of the pieces, each like the array ``row``."""
        self._pieces = pieces
        self.shape = (count, *row.shape)
        self.dtype = row.dtype
        self.mapped = mapped

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * self.dtype.itemsize

    def pieces(self) -> Iterator[np.ndarray]:
        """The rows in order, as arrays [some, ...] that are not copied."""
        left = self.shape[0]
        for piece in self._pieces:
            if not left:
                return
            yield piece[:left]
            left -= len(piece[:left])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows in pieces cannot be one array without a copy")
        empty = np.empty((0, *self.shape[1:]), self.dtype)
        joined = np.concatenate([empty, *self.pieces()])
        return joined if dtype is None else joined.astype(dtype, copy=False)


class Blocks:
    """Rows of several arrays side by side, in blocks of memory or memory-mapped files.

    Row i of an array stands in block i // size. A block is one stretch of memory, or
    one file, with a section [size, ...] for each array; it is never moved or copied.

    Attributes:
      size: rows in a block.
      sections: for each array the list of its sections, one a block.
    """

    def __init__(
        self, rows: Sequence[np.ndarray], size: int, folder: Path | None
    ) -> None:
        """For arrays of rows like each of ``rows``; a folder's files begin anew."""
        self.rows, self.size, self.folder = rows, size, folder
        self.sections: list[list[np.ndarray]] = [[] for _ in rows]
        self.blocks = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("block-*.bin"):
                old.unlink()

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks; of memory only what was written counts as used."""
        return self.blocks * self._layout()[1]

    def grow(self, count: int) -> None:
        """Makes room for ``count`` rows in all."""
        while self.blocks * self.size < count:
            starts, total = self._layout()
            block = self._allocate(total)
            for sections, row, start in zip(
                self.sections, self.rows, starts, strict=True
            ):
                part = block[start : start + self.size * row.nbytes]
                sections.append(part.view(row.dtype).reshape(self.size, *row.shape))
            self.blocks += 1

    def _layout(self) -> tuple[list[int], int]:
        """Where each section starts in a block, and the bytes of a block."""
        sizes = [-(-self.size * row.nbytes // _ALIGNED) * _ALIGNED for row in self.rows]
        starts = np.cumsum([0, *sizes]).tolist()
        return starts[:-1], starts[-1]

    def _allocate(self, size: int) -> np.ndarray:
        if self.folder is None or not size:
            return np.empty(size, np.uint8)
        path = self.folder / f"block-{self.blocks:06d}.bin"
        try:
            with path.open("wb") as stream:
                # A full disk is an error here, and not the end of the process when a
                # page of the mapping is written.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(stream.fileno(), 0, size)
                else:
                    stream.truncate(size)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise InputError(
                f"no room for client state in {self.folder}: {error.strerror}, "
                f"{size} more bytes are needed"
            ) from error
        return np.memmap(path, np.uint8, "r+", shape=(size,)).view(np.ndarray)
