"""Which rows a client sees at which step."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.numerics.shuffle import permute
from fedjax_compress.typing import Array, Batch, Key, Shard

Last = Literal["keep", "drop"]


class Schedule(NamedTuple):
    """Batches of a client with ``size`` rows; every function is pure and traceable.

    Attributes:
      epochs: passes over the client's rows, used where ``steps`` is 0.
      steps: number of steps whatever the number of rows; 0 means by epochs.
      batch: rows a batch. A batch larger than the client holds all of its rows.
      last: ``keep`` an incomplete last batch of an epoch (masked), or ``drop`` it.
      shuffle: a fresh permutation for each epoch, or the stored order.
    """

    epochs: int
    steps: int
    batch: int
    last: Last
    shuffle: bool

    def per_epoch(self, size: Array) -> Array:
        """Number of batches in one pass over ``size`` rows."""
        if self.last == "drop":
            return size // self.batch
        return (size + self.batch - 1) // self.batch

    def rows(self, size: Array) -> Array:
        """Number of rows, of ``size``, that one pass covers."""
        return jnp.minimum(self.per_epoch(size) * self.batch, size)

    def total(self, size: Array) -> Array:
        """Number of local steps of a client with ``size`` rows.

        Non-decreasing in ``size``, so the largest client bounds all others.
        """
        each = self.per_epoch(size)
        if self.steps:
            return jnp.where(each > 0, self.steps, 0)
        return self.epochs * each

    def seen(self, size: Array) -> Array:
        """How many rows a client of ``size`` learns from, each as often as it is seen.

        Where ``steps`` are set, passes may end on the way.
        """
        if not self.steps:
            return (self.epochs * self.rows(size)).astype(jnp.float32)
        each = jnp.maximum(self.per_epoch(size), 1)
        whole, rest = self.steps // each, self.steps % each
        rows = whole * self.rows(size) + jnp.minimum(rest * self.batch, size)
        return jnp.where(self.per_epoch(size) > 0, rows, 0).astype(jnp.float32)

    def batch_at(self, shard: Shard, key: Key, step: Array) -> Batch:
        """The rows of step ``step``; all masked out once the client has finished."""
        each = jnp.maximum(self.per_epoch(shard.size), 1)
        index = (step % each) * self.batch + jnp.arange(self.batch, dtype=jnp.int32)
        mask = (index < shard.size) & (step < self.total(shard.size))
        if self.shuffle:
            index = permute(jax.random.fold_in(key, step // each), index, shard.size)
        return shard.take(index, mask)


def schedule(
    epochs: int = 1,
    steps: int = 0,
    batch: int = 20,
    last: Last = "keep",
    shuffle: bool = True,
) -> Schedule:
    """A checked Schedule.

    Raises:
      InputError: a number that is negative, or neither epochs nor steps.
    """
    if epochs < 0 or steps < 0:
        raise InputError(
            f"epochs and steps must not be negative, got {epochs} and {steps}"
        )
    if epochs == 0 and steps == 0:
        raise InputError("epochs and steps are both 0: give one of them at least 1")
    if batch < 1:
        raise InputError(f"batch must be at least 1 row, got {batch}")
    return Schedule(epochs, steps, batch, last, shuffle)
