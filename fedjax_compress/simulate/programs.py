"""The programs of a run: rounds on a mesh of devices, compiled once for each phase."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from fedjax_compress.errors import InputError
from fedjax_compress.models import Form, convolution_form
from fedjax_compress.runtime import host
from fedjax_compress.runtime.compiling import compile_once
from fedjax_compress.simulate import round as rounds_
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.placement import AXIS, Placement
from fedjax_compress.typing import Key, Tree


class Residence(NamedTuple):
    """Where things live, and in how many lanes clients are trained; static.

    Attributes:
      lanes: clients side by side on a device.
      states: client states live on the device between rounds.
      rows: so do all rows.
    """

    lanes: int
    states: bool
    rows: bool


class Programs:
    """Compiles the rounds of each phase at their first call, and never again.

    Args:
      phases: the algorithms that take turns.
      placement: the devices.
      key: of the run.
      convolution: form of the convolutions that leave it open.

    Attributes:
      traces: how often Python code of a round was traced.
      seconds: what compiling has taken.
      compiled: the programs by phase.
      digests: SHA-256 of their text, by phase and layout.
    """

    def __init__(
        self,
        phases: Phases,
        placement: Placement,
        key: Key,
        convolution: Form,
    ):
        self.phases, self.placement = phases, placement
        self.convolution: Form = convolution
        self._key = key
        self.compiled: dict[int, Any] = {}
        self.digests: dict[str, str] = {}
        self.traces = 0
        self.seconds = 0.0

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """What is traced within has the form of convolutions; its time is counted."""
        begin = time.perf_counter()
        try:
            with convolution_form(self.convolution):
                yield
        finally:
            self.seconds += time.perf_counter() - begin

    def get(self, phase: int, inputs: tuple, residence: Residence) -> Any:
        """The program of a phase for these inputs."""
        if phase not in self.compiled:
            with self.compiling():
                lowered = self.trace(phase, inputs, residence).lower()
                self.compiled[phase], text = compile_once(
                    lowered, self.placement.mesh.devices.flat
                )
            self.digests[self._layout(phase, residence)] = text
        return self.compiled[phase]

    def _layout(self, phase: int, residence: Residence) -> str:
        """What may differ between two starts of a run, and with it the program."""
        place = self.placement
        where = [place.devices, place.processes, self.convolution, *residence]
        return json.dumps([phase, *where])

    def trace(self, phase: int, inputs: tuple, residence: Residence) -> Any:
        """The program of a phase, traced: ``jax.stages.Traced``.

        Nothing of it belongs to a platform yet: ``.lower()`` is for the devices at
        hand, ``.lower(lowering_platforms=("cuda", "tpu"))`` for others.

        Args:
          phase: number of the phase.
          inputs: rows, key data, ``Fixed``, server, store, seats, number of the first
            round and of rounds: arrays, or ``jax.ShapeDtypeStruct`` of them.
          residence: where things live.
        """
        split = PartitionSpec(None, AXIS)
        whole, parts = PartitionSpec(), PartitionSpec(AXIS)
        rows = whole if residence.rows else parts
        stores = whole if residence.states else parts
        records: Any = rounds_.RoundRecord(split, whole, whole, whole, whole)  # type: ignore[arg-type]
        algorithm = self.phases.algorithms[phase]
        program = jax.shard_map(
            functools.partial(self._rounds, algorithm, residence.states),
            mesh=self.placement.mesh,
            in_specs=(rows, whole, whole, whole, stores, split, whole, whole),
            out_specs=(whole, stores, records),
            check_vma=False,
        )
        with convolution_form(self.convolution):
            return jax.jit(program, donate_argnums=(3, 4)).trace(*inputs)

    def _rounds(
        self,
        algorithm,
        resident,
        data,
        root,
        fixed,
        server,
        store,
        seats,
        first,
        rounds,
    ) -> tuple:
        self.traces += 1
        root = jax.random.wrap_key_data(root, impl=jax.random.key_impl(self._key))
        gaps = algorithm.tiers is not None or (
            not resident and self.placement.processes > 1
        )
        return rounds_.run_rounds(
            algorithm, data, server, store, seats, fixed, root, first, rounds,
            rounds_.Meet(self._add, self._gather), rounds_.Layout(resident, gaps),
        )  # fmt: skip

    def _add(self, part: Tree) -> Tree:
        """The sum over devices: one reduction of one vector for each dtype."""
        if self.placement.devices == 1:
            return part
        leaves, structure = jax.tree.flatten(part)
        for dtype in dict.fromkeys(x.dtype for x in leaves):
            places = [i for i, x in enumerate(leaves) if x.dtype == dtype]
            flat, restore = ravel_pytree([leaves[i] for i in places])
            for i, x in zip(places, restore(jax.lax.psum(flat, AXIS)), strict=True):
                leaves[i] = x
        return jax.tree.unflatten(structure, leaves)

    def _gather(self, part: Tree) -> Tree:
        """The chunks of all devices, one after the other.

        Raises:
          InputError: they are more than a device can hold; nothing is compiled yet.
        """
        devices = self.placement.own_devices
        need = self.placement.devices * sum(x.nbytes for x in jax.tree.leaves(part))
        if need > (most := host.memory(devices[0])):
            raise InputError(
                f"what the clients of a round hand in takes {need / 1e9:.3g} GB side "
                f"by side, and a device has {most / 1e9:.3g} GB; lower cohort, or take "
                "an algorithm that sums"
            )
        if self.placement.devices == 1:
            return part
        return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), part)
