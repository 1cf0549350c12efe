"""The blocks of a rotated vector: their sums, and a number of each for its elements."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fedjax_compress.compress._hadamard import RUN, cut
from fedjax_compress.typing import Array

BLOCK = 131_072
"""The largest block, unless told otherwise: large enough that one element rarely has a
noticeable share of its energy, which is what biases signs after a rotation."""


class Blocks(NamedTuple):
    """Which block each element of a rotated vector belongs to.

    Elements of one block have one variance after the rotation; those of two blocks have
    it only by chance. The full blocks at the front take runs of elements in turn. Where
    elements remain, the last ``size`` elements are a block of their own, since they are
    rotated last, and the front ends before them.

    Attributes:
      n: elements of the vector.
      size: elements of a block.
      front: elements in full blocks, a multiple of size.
    """

    n: int
    size: int
    front: int

    @property
    def number(self) -> int:
        """How many there are."""
        return self.front // self.size + (self.front < self.n)

    @property
    def sizes(self) -> np.ndarray:
        """Elements of each, float32 [number]."""
        owner = self._owner()
        return np.bincount(owner, minlength=self.number).astype(np.float32)

    def sums(self, values: Array) -> Array:
        """The sum over each block, float32 [number], of values [n]."""
        if self.number == 1:
            return jnp.sum(values)[None]
        head = values[: self._head()]
        head = jnp.pad(head, (0, self.front - head.size))
        found = jnp.sum(jnp.sum(head.reshape(self._grid()), axis=2), axis=0)
        if self.front == self.n:
            return found
        last = jnp.sum(values[self._head() :])
        return jnp.concatenate([found, last[None]])

    def spread(self, each: Array) -> Array:
        """The number of its block for every element, [n], of numbers [number]."""
        if self.number == 1:
            return jnp.broadcast_to(each, (self.n,))
        grid = self._grid()
        head = jnp.broadcast_to(each[: grid[1], None], grid).reshape(-1)[: self._head()]
        if self.front == self.n:
            return head
        return jnp.concatenate([head, jnp.broadcast_to(each[-1:], (self.size,))])

    def _grid(self) -> tuple[int, int, int]:
        """The front as [runs of a block, blocks, elements of a run]."""
        run = min(self.size, RUN)
        return self.size // run, self.front // self.size, run

    def _head(self) -> int:
        """Elements before the block that is rotated last."""
        return self.n if self.front == self.n else self.n - self.size

    def _owner(self) -> np.ndarray:
        runs, blocks, run = self._grid()
        head = np.tile(np.repeat(np.arange(blocks), run), runs)[: self._head()]
        return np.append(head, np.full(self.n - head.size, self.number - 1))


def blocks_of(n: int, block: int) -> Blocks:
    """The blocks of ``rotation(block, shorter=False)`` of n elements."""
    return Blocks(n, *cut(n, block, shorter=False))
