"""Rows of the present cohort, read from host memory or from files round by round."""

from __future__ import annotations

import numpy as np

from fedjax_compress.clients import ClientData
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.plan import DUMMY

_LINE = 64
"""Bytes to which JAX wants memory aligned that it is to use in place."""


class Stream:
    """Reads the rows of a cohort and puts them on the devices.

    Each process reads the rows of its own devices' clients only. The buffers are as
    large as the largest clients could ever need, so that no round compiles anew. They
    are aligned, and the CPU's devices use them in place: what is not filled is never
    touched there.

    Args:
      data: all clients' rows, host arrays; memory-mapped ones stay on the disk.
      placement: the devices.
      seats: lanes that one device runs in a round.
    """

    def __init__(self, data: ClientData, placement: Placement, seats: int):
        self.data, self.placement, self.seats = data, placement, seats
        sizes = data.sizes
        seats = min(seats, len(sizes))
        most = int(np.partition(sizes, -seats)[-seats:].sum())
        self.capacity = max(1, -(-most // _LINE)) * _LINE

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, ClientData]:
        """Where each lane's rows stand, and the rows.

        Args:
          ids: int32 [1, chunks of all devices, lanes].

        Returns:
          int32 places of the shape of ``ids``, and the rows of each device.
        """
        devices = self.placement.devices
        each = ids.reshape(devices, -1)
        own = each[self.placement.own]
        columns = {
            name: _zeros((len(own) * self.capacity, *c.shape[1:]), c.dtype)
            for name, c in self.data.columns.items()
        }
        offsets = np.zeros((len(own), self.seats + 1), np.int32)
        for device, clients in enumerate(own):
            rows = slice(device * self.capacity, (device + 1) * self.capacity)
            mine = {name: column[rows] for name, column in columns.items()}
            self._fill(clients, mine, offsets[device])
        local = np.where(each == DUMMY, self.seats, np.arange(self.seats))
        made = columns, offsets.reshape(-1)
        cohort: ClientData = ClientData(*self.placement.spread(made))
        return local.reshape(ids.shape).astype(np.int32), cohort

    def _fill(
        self,
        clients: np.ndarray,
        columns: dict[str, np.ndarray],
        offsets: np.ndarray,
    ) -> None:
        data, end = self.data, 0
        begins = np.asarray(data.offsets)
        for seat, client in enumerate(clients):
            if client != DUMMY:
                start, stop = int(begins[client]), int(begins[client + 1])
                rows = (
                    slice(start, stop) if data.rows is None else data.rows[start:stop]
                )
                fresh = slice(end, end + stop - start)
                for name, column in columns.items():
                    column[fresh] = data.columns[name][rows]
                end = fresh.stop
            offsets[seat + 1] = end


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Aligned zeros, of pages that are not there before they are written."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(dtype).reshape(shape)
