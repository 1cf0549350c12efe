"""The simulator: compiles rounds of an algorithm and steps through them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_compress import tree
from fedjax_compress.clients import ClientData, HostStore
from fedjax_compress.errors import InputError
from fedjax_compress.randomness import root_key
from fedjax_compress.simulate import round as rounds_
from fedjax_compress.simulate.plan import DUMMY, choose_lanes, chunks_of, plan
from fedjax_compress.typing import Algorithm, Params, Server, Tree
from fedjax_compress.wire import Ledger

Sampling = Callable[[int, int, np.ndarray, int], np.ndarray]
RESIDENT_LIMIT = 2**31
"""Client states of at most this many bytes live on the device."""


class RunState(NamedTuple):
    """All that a run needs to go on.

    Attributes:
      server: the algorithm's server.
      store: state of every client. Where resident, device arrays [clients, ...];
        else the tree of the host's store, which the next round changes in place.
      round: number of rounds finished.
    """

    server: Server
    store: Tree
    round: int


class Simulator:
    """Steps an algorithm through federated rounds, one compiled program for the run.

    Client states live on the device while there is one device and they fit; else on
    the host, from where the cohort's are gathered before and scattered after a round.

    Args:
      algorithm: one client and one server step.
      data: all clients' rows, host arrays.
      cohort: clients per round.
      seed: root of all randomness, together with round and client id.
      sampling: (seed, round, sizes, cohort) -> distinct client ids.
      lanes: clients side by side on a device, at most a device's share of the cohort;
        0 chooses by model size and device.
      devices: devices of the mesh axis ``clients``.
      rounds_per_call: rounds in one call of the program; 1 where client states are
        kept on the host.
      resident_limit: client states of more bytes than this are kept on the host.
      generator: of random bits, see ``randomness.root_key``.

    Raises:
      InputError: cohort larger than the population, more devices than there are, or
        a number that is too small.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        data: ClientData,
        *,
        cohort: int,
        sampling: Sampling,
        seed: int = 0,
        lanes: int = 0,
        devices: int = 1,
        rounds_per_call: int = 1,
        resident_limit: int = RESIDENT_LIMIT,
        generator: str = "mix",
    ):
        self.algorithm = algorithm
        self.sizes = np.asarray(data.sizes)
        _check(cohort, len(self.sizes), lanes, rounds_per_call)
        self.cohort, self.sampling, self.seed = cohort, sampling, seed
        self.mesh = _mesh(devices)
        self.devices = devices
        self.rounds_per_call = rounds_per_call
        self.lanes = min(lanes, -(-cohort // devices))
        self.resident_limit = resident_limit
        self.traces = 0
        self.compile_seconds = 0.0
        self._host: HostStore | None = None
        self._data = self._replicate(data)
        self._root = self._replicate(root_key(seed, generator))
        self._program: Any = None

    @property
    def clients(self) -> int:
        """Size of the population."""
        return len(self.sizes)

    def start(self, params: Params) -> RunState:
        """The state before the first round."""
        params = jax.tree.map(jnp.asarray, params)
        key = jax.random.fold_in(self._root, 2**31 - 1)
        server = self.algorithm.init(key, params)
        # Rounds give the server's arrays up: each must be its own, nobody else's.
        server = jax.tree.map(lambda x: jnp.array(x, copy=True), server)
        if not self.lanes:
            size, kind = tree.count(params), jax.devices()[0].platform
            self.lanes = choose_lanes(size, self.cohort, self.devices, kind)
        template = self.algorithm.client_init(params)
        return RunState(self._replicate(server), self._new_store(template), 0)

    @property
    def resident(self) -> bool:
        """Whether client states live on the device between rounds."""
        return self._host is None

    def _new_store(self, template: Tree) -> Tree:
        need = self.clients * sum(x.nbytes for x in jax.tree.leaves(template))
        fits = self.devices == 1 and need <= self.resident_limit
        if jax.tree.leaves(template) and not fits:
            self.rounds_per_call = 1
            self._host = HostStore(jax.device_get(template), self.clients)
            return self._host.tree
        self._host = None
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x, (self.clients, *x.shape)).copy(), template
        )

    def place(self, state: RunState) -> RunState:
        """A state read from a checkpoint, put where the program expects it."""
        store = state.store
        if self._host is not None:
            self._host.load(store)
            store = self._host.tree
        else:
            store = jax.tree.map(jnp.asarray, store)
        return RunState(self._replicate(state.server), store, state.round)

    def advance(self, state: RunState, rounds: int) -> tuple[RunState, list[dict]]:
        """Runs ``rounds`` rounds.

        Returns:
          The new state (the old one's arrays are given up) and one record a round.
        """
        records: list[dict] = []
        while rounds > 0:
            now = min(rounds, self.rounds_per_call)
            state, fresh = self._call(state, now)
            records += fresh
            rounds -= now
        return state, records

    def _call(self, state: RunState, rounds: int) -> tuple[RunState, list[dict]]:
        begin = time.perf_counter()
        compiled_before = self.compile_seconds
        ids = np.stack(
            [self._plan(state.round + i) for i in range(rounds)]
            + [self._blank()] * (self.rounds_per_call - rounds)
        )
        slots, cohort_store = self._gather(state.store, ids)
        number, count = np.int32(state.round), np.int32(rounds)
        inputs = (state.server, cohort_store, ids, slots, number, count)
        server, store, record = self._compiled(inputs)(self._data, self._root, *inputs)
        record = jax.device_get(record)
        store = self._scatter(ids, store)
        seconds = time.perf_counter() - begin
        seconds -= self.compile_seconds - compiled_before
        after = RunState(server, store, state.round + rounds)
        rows = [
            _record(state.round + i + 1, ids[i], record, i, seconds / rounds)
            for i in range(rounds)
        ]
        return after, rows

    def _plan(self, number: int) -> np.ndarray:
        ids = self.sampling(self.seed, number, self.sizes, self.cohort)
        return plan(ids, self.sizes, self.lanes, self.devices).ids

    def _blank(self) -> np.ndarray:
        chunks = chunks_of(self.cohort, self.lanes, self.devices) * self.devices
        return np.full((chunks, self.lanes), DUMMY, np.int32)

    def _gather(self, store: Tree, ids: np.ndarray) -> tuple[np.ndarray, Tree]:
        """Where each client's state stands, and the states the program works on."""
        if self._host is None:
            return np.where(ids == DUMMY, self.clients, ids).astype(np.int32), store
        flat = ids.reshape(-1)
        local = np.arange(len(flat), dtype=np.int32) % (len(flat) // self.devices)
        spread = NamedSharding(self.mesh, PartitionSpec(rounds_.AXIS))
        own = jax.device_put(self._host.gather(flat), spread)
        return local.reshape(ids.shape), own

    def _scatter(self, ids: np.ndarray, new: Tree) -> Tree:
        """The store after the round: the program's own, or the host's, updated."""
        if self._host is None:
            return new
        self._host.scatter(ids.reshape(-1), jax.device_get(new))
        return self._host.tree

    def _replicate(self, value: Tree) -> Tree:
        return jax.device_put(value, NamedSharding(self.mesh, PartitionSpec()))

    def _compiled(self, inputs: tuple) -> Any:
        """The program, compiled at the first call and never again."""
        if self._program is None:
            begin = time.perf_counter()
            self._program = self.lower(*inputs).compile()
            self.compile_seconds += time.perf_counter() - begin
        return self._program

    def lower(self, *inputs: Any) -> Any:
        """The program for these inputs, lowered and not yet compiled."""
        split = PartitionSpec(None, rounds_.AXIS)
        whole = PartitionSpec()
        stores = whole if self.resident else PartitionSpec(rounds_.AXIS)
        records: Any = rounds_.RoundRecord(split, whole, whole)  # type: ignore[arg-type]
        program = jax.shard_map(
            self._rounds,
            mesh=self.mesh,
            in_specs=(whole, whole, whole, stores, split, split, whole, whole),
            out_specs=(whole, stores, records),
            check_vma=False,
        )
        jitted = jax.jit(program, donate_argnums=(2, 3))
        return jitted.lower(self._data, self._root, *inputs)

    def _rounds(self, data, root, server, store, ids, slots, first, rounds) -> tuple:
        self.traces += 1
        return rounds_.run_rounds(
            self.algorithm, data, server, store, ids, slots, root, first, rounds,
            self._meet,
        )  # fmt: skip

    def _meet(self, part: Tree) -> Tree:
        """The sum over devices, as one reduction of one vector."""
        if self.devices == 1:
            return part
        flat, restore = ravel_pytree(part)
        return restore(jax.lax.psum(flat, rounds_.AXIS))


def _check(cohort: int, clients: int, lanes: int, rounds_per_call: int) -> None:
    if not 1 <= cohort <= clients:
        raise InputError(
            f"the cohort must be 1 to {clients} clients (the population), got {cohort}"
        )
    if lanes < 0:
        raise InputError(f"lanes must not be negative (0 chooses), got {lanes}")
    if rounds_per_call < 1:
        raise InputError(f"rounds_per_call must be at least 1, got {rounds_per_call}")


def _mesh(devices: int) -> Mesh:
    found = jax.devices()
    if not 1 <= devices <= len(found):
        raise InputError(
            f"devices must be 1 to {len(found)} (the devices there are), got {devices}"
        )
    return Mesh(np.array(found[:devices]), (rounds_.AXIS,))


def _record(
    number: int, ids: np.ndarray, record: rounds_.RoundRecord, i: int, seconds: float
) -> dict:
    """One line of metrics; sums of bytes are Python integers."""
    real = ids != DUMMY
    lanes = jax.tree.map(lambda x: np.asarray(x[i])[real], record.lanes)
    order = np.argsort(ids[real])
    ok = lanes.ok[order]
    weight = lanes.examples[order][ok].astype(np.float64)
    loss = lanes.loss[order][ok].astype(np.float64)
    clients = int(real.sum())
    total = float(weight.sum())
    ledger = Ledger()
    ledger.up(lanes.up, lanes.nominal_up)
    down, nominal = int(record.down[i]), int(record.nominal_down[i])
    ledger.down([down] * clients, [nominal] * clients)
    return {
        "round": number,
        "train_loss": float((loss * weight).sum() / total) if total else float("nan"),
        "clients": clients,
        "dropped": int(clients - ok.sum()),
        "bytes_up": ledger.bytes_up,
        "bytes_down": ledger.bytes_down,
        "nominal_bytes_up": ledger.nominal_bytes_up,
        "nominal_bytes_down": ledger.nominal_bytes_down,
        "seconds": seconds,
        "clients_per_second": clients / seconds if seconds > 0 else float("inf"),
    }
