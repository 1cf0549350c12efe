"""Memory through which client states go from the host into a round and back."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.clients.rows import aligned
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.typing import Tree


class StateBuffer:
    """The states of one cohort: arrays for the program, rows for the host.

    On a CPU both are the same memory. The program is given it up and leaves the new
    states in it, so that a round neither copies nor allocates them: fresh memory costs
    as much as a copy, page by page. Elsewhere the rows are arrays of the host's own.

    The rows may be read and written except between ``arrays`` and ``take``, when the
    memory is the program's.

    Args:
      placement: the devices; each process holds the rows of its own.
      template: state of one client, a tree of numpy arrays.
      chunks: of one device.
      lanes: of one chunk.

    Attributes:
      rows: for each own device a tree of arrays [chunks * lanes, ...].
    """

    def __init__(self, placement: Placement, template: Tree, chunks: int, lanes: int):
        self.placement = placement
        self.rows: list[Tree] = []
        self._in_place = placement.own_devices[0].platform == "cpu"
        self._arrays: Tree = None
        shape = chunks, lanes
        if self._in_place:
            self.take(jax.tree.map(lambda x: self._zeros(shape, x), template))
            return
        self._seats = shape
        for _ in placement.own_devices:
            rows = jax.tree.map(
                lambda x: aligned((chunks * lanes, *x.shape), x.dtype), template
            )
            self.rows.append(rows)

    def arrays(self) -> Tree:
        """The states for the program, [chunks of all devices, lanes, ...]."""
        if self._in_place:
            given, self._arrays, self.rows = self._arrays, None, []
            return given
        devices = self.placement.own_devices

        def put(*rows: np.ndarray) -> jax.Array:
            parts = [
                jax.device_put(x.reshape(*self._seats, *x.shape[1:]), device)
                for x, device in zip(rows, devices, strict=True)
            ]
            return self.placement.join(parts)

        return jax.tree.map(put, *self.rows)

    def take(self, arrays: Tree) -> None:
        """Holds what the program has left, wherever it has put it."""
        places = range(len(self.placement.own_devices))

        def part(place: int, x: jax.Array) -> jax.Array:
            return self.placement.own_parts(x)[place]

        def read(place: int, rows: np.ndarray, x: jax.Array) -> None:
            rows[...] = np.asarray(part(place, x)).reshape(rows.shape)

        if not self._in_place:
            for place in places:
                jax.tree.map(partial(read, place), self.rows[place], arrays)
            return
        self._arrays = jax.block_until_ready(arrays)
        self.rows = [
            jax.tree.map(lambda x, p=place: _rows(_memory(part(p, x))), arrays)
            for place in places
        ]

    def _zeros(self, seats: tuple[int, int], row: np.ndarray) -> jax.Array:
        devices = self.placement.own_devices
        return self.placement.join(
            [jnp.zeros((*seats, *row.shape), row.dtype, device=d) for d in devices]
        )


def _rows(array: np.ndarray) -> np.ndarray:
    """[chunks, lanes, ...] as [chunks * lanes, ...]."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def _memory(array: jax.Array) -> np.ndarray:
    """The memory of an array on one CPU device, to be read and written.

    Whoever takes it keeps the array. ``np.asarray`` gives it for reading only, and
    whoever has asked for that cannot give the array up to a program.
    """
    if not array.nbytes:
        return np.empty(array.shape, array.dtype)
    place = array.unsafe_buffer_pointer()
    raw: Any = (ctypes.c_char * array.nbytes).from_address(place)
    return np.frombuffer(raw, np.uint8).view(array.dtype).reshape(array.shape)
