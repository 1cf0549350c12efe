"""Where arrays lie: one mesh of devices, over one process or many."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_compress.clients.rows import aligned
from fedjax_compress.errors import InputError
from fedjax_compress.runtime.host import silent_stdout
from fedjax_compress.typing import Tree

AXIS = "clients"


class Placement:
    """The devices of a run, in a mesh with the one axis ``clients``.

    Args:
      devices: number of devices, of all processes together.

    Raises:
      InputError: more devices than there are, or a number that does not go round.
    """

    def __init__(self, devices: int):
        found, processes = jax.devices(), jax.process_count()
        if devices % processes:
            raise InputError(
                f"devices must be a multiple of {processes}, the number of "
                f"processes, got {devices}"
            )
        most = processes * min(len(_of(found, p)) for p in range(processes))
        if not 1 <= devices <= most:
            each = "" if processes == 1 else ", as many for each process"
            raise InputError(
                f"devices must be 1 to {most} (the devices there are{each}), "
                f"got {devices}; give --devices"
            )
        self.devices, self.processes = devices, processes
        self.process = jax.process_index()
        chosen = [
            device
            for p in range(processes)
            for device in _of(found, p)[: devices // processes]
        ]
        self.mesh = Mesh(np.array(chosen), (AXIS,))
        whole = NamedSharding(self.mesh, PartitionSpec())
        self._copy = jax.jit(lambda x: x, out_shardings=whole)
        if processes > 1:
            self._meet()

    @property
    def own(self) -> slice:
        """The devices of this process, by their place in the mesh."""
        each = self.devices // self.processes
        return slice(self.process * each, (self.process + 1) * each)

    @property
    def own_devices(self) -> list[Any]:
        """The devices of this process that take part, in the order of the mesh."""
        return list(self.mesh.devices[self.own])

    def replicate(self, value: Tree) -> Tree:
        """The same arrays on every device; each process gives the same values."""
        whole = NamedSharding(self.mesh, PartitionSpec())
        if self.processes == 1:
            return jax.device_put(jax.tree.map(_shareable, value), whole)

        def put(x: Any) -> jax.Array:
            local = np.asarray(x)
            return jax.make_array_from_process_local_data(whole, local, local.shape)

        return jax.tree.map(put, value)

    def spread(self, value: Tree, axis: int = 0) -> Tree:
        """Arrays cut along ``axis``, an equal part for each device.

        Each process gives the parts of its own devices only.
        """
        cut = PartitionSpec(*[None] * axis, AXIS)
        sharding = NamedSharding(self.mesh, cut)
        if self.processes == 1:
            return jax.device_put(value, sharding)
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
            value,
        )

    def scatter(self, value: Tree, axis: int) -> Tree:
        """As ``spread``, of arrays that every process knows as a whole."""
        if self.devices == 1:
            return value
        cut = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(x.shape, cut, lambda at: x[at]),
            value,
        )

    def gather(self, value: Tree) -> Tree:
        """Arrays cut along an axis, whole on the host of every process."""
        if self.processes == 1:
            return jax.device_get(value)
        return jax.device_get(self._copy(value))

    def local(self, value: Tree) -> Tree:
        """A ``replicate`` value on one device of this process, for work of its own."""
        if self.devices == 1:
            return value
        return jax.tree.map(lambda x: x.addressable_data(0), value)

    def own_parts(self, value: jax.Array) -> list[jax.Array]:
        """The parts of an array cut along its first axis, one for each own device."""
        shards = sorted(value.addressable_shards, key=lambda s: s.index[0].start or 0)
        return [shard.data for shard in shards]

    def join(self, parts: list[jax.Array]) -> jax.Array:
        """The array cut along its first axis; inverse of ``own_parts``."""
        cut = NamedSharding(self.mesh, PartitionSpec(AXIS))
        shape = self.devices * parts[0].shape[0], *parts[0].shape[1:]
        return jax.make_array_from_single_device_arrays(shape, cut, parts)

    def _meet(self) -> None:
        """The first collective over all devices, in which all processes connect."""
        number = self.spread(np.zeros(self.devices // self.processes))
        with silent_stdout():
            jax.block_until_ready(self._copy(number))


def _of(devices: list[Any], process: int) -> list[Any]:
    return [d for d in devices if d.process_index == process]


def _shareable(x: Any) -> Any:
    """``x``, or a copy that the CPU's devices can use in place, all the same one."""
    if not isinstance(x, np.ndarray) or x.ctypes.data % 64 == 0:
        return x
    copy = aligned(x.shape, x.dtype)
    copy[...] = x
    return copy
