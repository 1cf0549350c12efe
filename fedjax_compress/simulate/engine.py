"""The simulator: compiles rounds of an algorithm and steps through them."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import tree
from fedjax_compress.clients import ClientData
from fedjax_compress.clock import Clock
from fedjax_compress.models import Form
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.simulate import beginning, chunk, handed_in, metrics, plan
from fedjax_compress.simulate import round as rounds_
from fedjax_compress.simulate.keeping import Keeping
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.plan import (
    Planner,
    Sampling,
    choose_devices,
    choose_lanes,
    first_cohort,
)
from fedjax_compress.simulate.programs import Programs, Residence
from fedjax_compress.simulate.readings import Reading, Timed
from fedjax_compress.simulate.states import HostStates
from fedjax_compress.simulate.supply import Stream, Supplier, Supply
from fedjax_compress.simulate.timing import Timer
from fedjax_compress.simulate.watch import Watch, watch_of
from fedjax_compress.simulate.work import Work
from fedjax_compress.typing import Algorithm, ClientState, Params, Server, Tree


class RunState(NamedTuple):
    """All that a run needs to go on.

    Attributes:
      server: the algorithm's server.
      store: state and record of every client, device arrays [clients, ...]. Empty where
        the simulator keeps them on the host: ``Simulator.snapshot`` has them.
      round: number of rounds finished.
      clock: where the virtual clock stands; at 0 without one.
    """

    server: Server
    store: Tree
    round: int
    clock: Reading = Reading()


class Simulator:
    """Steps an algorithm through federated rounds, one compiled program for the run.

    Where ``later`` algorithms take over, each phase is a program of its own.

    Rows and client states live on the device while they fit (states: while there is
    one device, too), else on the host. Then the next cohort's are read while the
    present round computes, and states are written back behind it.

    Args:
      algorithm: one client and one server step.
      data: all clients' rows, host arrays. Memory-mapped ones are never resident.
      cohort: clients per round.
      seed: root of all randomness, together with round and client id.
      sampling: (seed, round, sizes, cohort) -> distinct client ids.
      lanes: clients side by side on a device, at most a device's share of the cohort;
        0 chooses by model size and device.
      devices: devices of the mesh axis ``clients``, of all processes together; 0
        takes all there are, but no more than clients.
      rounds_per_call: rounds in one call of the program; 1 where rows or client
        states are kept on the host.
      resident_limit: rows, or client states, of more bytes are kept on the host.
      generator: of random bits, see ``randomness.root_key``.
      convolution: form of the convolutions that leave it open.
      later: (finished rounds, algorithm) of those that take over after so many.
      clock: virtual time; None for none. ``cohort`` is then how many reports are
        wanted, and the rules of the clock may invite more. Without one, an algorithm
        that waits for nobody has rounds as others have, and nothing is stale.
      work: what clients compute, for each phase; with a clock.

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
        resident_limit: int = plan.RESIDENT_LIMIT,
        generator: str = "mix",
        convolution: Form = "auto",
        later: Sequence[tuple[int, Algorithm]] = (),
        clock: Clock | None = None,
        work: Sequence[Work] = (),
    ):
        self.algorithm = algorithm
        self.phases = Phases(algorithm, later)
        self.sizes = np.asarray(data.sizes)
        plan.check_sizes(cohort, len(self.sizes), lanes, rounds_per_call)
        self.watch: Watch | None = None
        if clock is not None:
            timer = Timer(clock, work, seed, self.sizes, cohort)
            self.watch = watch_of(timer, self.phases, sampling)
            cohort = timer.invited
        self.cohort, self.sampling, self.seed = cohort, sampling, seed
        self.placement = Placement(devices or choose_devices(cohort))
        self.devices = devices = self.placement.devices
        self.lanes = min(lanes, -(-cohort // devices))
        self.resident_limit = resident_limit
        self.convolution: Form = convolution
        self._streams = plan.streams(data, resident_limit)
        self.rounds_per_call = 1 if self._streams else rounds_per_call
        self._source = data
        self._rows = data if self._streams else self.placement.replicate(data)
        self._key = root_key(seed, generator)
        self._root = self.placement.replicate(jax.random.key_data(self._key))
        self._supplier: Supplier | None = None
        self._kept: Keeping | None = None
        self.programs = Programs(self.phases, self.placement, self._key, convolution)

    @property
    def clients(self) -> int:
        """Size of the population."""
        return len(self.sizes)

    @property
    def traces(self) -> int:
        """How often rounds were traced: once a phase."""
        return self.programs.traces

    @property
    def compile_seconds(self) -> float:
        """What compiling has taken so far."""
        return self.programs.seconds

    @functools.cached_property
    def _first(self) -> str:
        return first_cohort(self.sampling, self.seed, self.sizes, self.cohort)

    def identity(self) -> dict[str, str]:
        """Digests of what has been run so far: of each program, by phase and layout,
        and of the first cohort. They are the same at another start of the same code.

        Raises:
          InputError: the sampling gives something else than a cohort.
        """
        return {"sampling": self._first, **self.programs.digests}

    def start(self, params: Params) -> RunState:
        """The state before the first round.

        Raises:
          InputError: there are no parameters, or some that are no floats or not finite.
        """
        params = handed_in.parameters(params)
        key = jax.random.fold_in(self._key, 2**31 - 1)
        self.phases.check(key, params)
        server = self.algorithm.init(key, params)
        # Rounds give the server's arrays up: each must be its own, nobody else's.
        server = jax.tree.map(lambda x: jnp.array(x, copy=True), server)
        if not self.lanes:
            size, kind = tree.count(params), jax.devices()[0].platform
            self.lanes = choose_lanes(size, self.cohort, self.devices, kind)
        fixed = chunk.Fixed(params, self.algorithm.public)
        self._fixed = self.placement.replicate(fixed)
        if self.watch is not None:
            with self.programs.compiling():
                self.watch.foresee(self._source, params)
            if self.watch.sequential or self.ends:
                self.rounds_per_call = 1
        template = chunk.kept_init(self.algorithm, params)
        limit = self.resident_limit
        self._kept = Keeping(template, self.clients, self.placement, limit)
        self.rounds_per_call = 1 if self._kept.hosted else self.rounds_per_call
        self._supplier = self._new_supplier(self._kept.hosted)
        store = self._kept.begin(self._supplier.worker)
        self._supplier.states = self._kept.host
        return RunState(self.placement.replicate(server), store, 0)

    @property
    def timed(self) -> Timed | None:
        """The last round by the clock; None without one, or before there is any."""
        return None if self.watch is None else self.watch.last

    @property
    def ends(self) -> bool:
        """Whether a run ends with a round for which too few clients have reported."""
        return self.watch is not None and self.watch.timer.clock.ends

    @property
    def resident(self) -> bool:
        """Whether client states live on the device between rounds."""
        return self._host is None

    @property
    def _host(self) -> HostStates | None:
        return None if self._kept is None else self._kept.host

    def _new_supplier(self, hosted: bool) -> Supplier:
        homes = self.placement.processes if hosted else 1
        planner = Planner(
            self.sampling, self.seed, self.sizes, self.cohort, self.lanes,
            self.devices, homes, self.algorithm.tiers,
        )  # fmt: skip
        stream = None
        if self._streams:
            seats = planner.chunks * self.lanes
            stream = Stream(self._rows, self.placement, seats)
        calls = self.rounds_per_call
        return Supplier(planner, calls, self.clients, stream, self.watch)

    def snapshot(self, state: RunState) -> Tree:
        """All that a checkpoint of ``state``, the newest one, has to hold."""
        assert self._kept is not None
        store = self._kept.saved(state.store)
        return {"server": state.server, "store": store} | self._read(state)

    def _read(self, state: RunState) -> dict[str, np.ndarray]:
        """Where the clock stands, as it is saved; nothing without one."""
        return {} if self.watch is None else self.watch.saved(state.clock)

    def client_states(self, state: RunState, ids: np.ndarray) -> ClientState:
        """The states of some clients, leaves [n, ...], in the newest state of a run.

        Raises:
          InputError: several processes keep them.
        """
        assert self._kept is not None
        return self._kept.states(state.store, ids)

    def expected(self, state: RunState) -> Tree:
        """What a ``snapshot`` looks like, on whatever devices it was made."""
        assert self._kept is not None
        store = self._kept.expected(state.store)
        server = jax.device_get(state.server)
        return {"server": server, "store": store} | self._read(state)

    def place(self, saved: Tree, finished: int) -> RunState:
        """The state after ``finished`` rounds, from a ``snapshot`` saved then."""
        assert self._supplier is not None
        assert self._kept is not None
        self._supplier.forget()
        store = self._kept.loaded(saved["store"])
        clock = self.watch.loaded(saved) if self.watch else Reading()
        server = self.placement.replicate(saved["server"])
        return RunState(server, store, finished, clock)

    def advance(self, state: RunState, rounds: int) -> tuple[RunState, list[dict]]:
        """Runs ``rounds`` rounds; fewer where one fails after which the clock ends.

        Returns:
          The new state (the old one's arrays are given up) and one record a round.

        Raises:
          InputError: a part gives back something else than it should, found before
            anything compiles; or the sampling does, in any round.
          Diverged: the server's model would not be finite after a round. The exception
            has the state before it, and the records up to it.
        """
        _ = self._first  # drawn before a thread of its own draws cohorts
        records: list[dict] = []
        if state.round == 0 and self.algorithm.begin is not None and rounds > 0:
            state = state._replace(server=self._begun(state.server))
        while rounds > 0:
            now = self.phases.within(state.round, min(rounds, self.rounds_per_call))
            rounds -= now
            state, fresh = self._call(state, now, rounds or self.rounds_per_call)
            records += fresh
            if fresh[-1].get("diverged"):
                raise metrics.diverged(state, records)
            if self.ends and fresh[-1].get("failed"):
                break
        return state, records

    def _begun(self, server: Server) -> Server:
        """The server after what one client does before the first round."""
        begin, placement = self.algorithm.begin, self.placement
        assert begin is not None
        data = self._rows if self._streams else placement.local(self._rows)
        with self.programs.compiling():
            fixed = placement.local(self._fixed)
            program = beginning.compiled(
                begin, placement.local(server), fixed, data, self._key
            )
        made = program(placement.local(server))
        return placement.replicate(jax.device_get(made))

    def _call(
        self, state: RunState, rounds: int, after: int
    ) -> tuple[RunState, list[dict]]:
        """One call of the program; ``after`` is how many rounds will follow it."""
        assert self._supplier is not None
        begin = time.perf_counter()
        compiled_before = self.compile_seconds
        supply = self._supplier.take(state.round, rounds, state.clock)
        kept = self._in_use(state.server)
        inputs = self._inputs(state, supply)
        residence = Residence(self.lanes, self.resident, not self._streams)
        program = self.programs.get(self.phases.at(state.round), inputs, residence)
        server, store, record = program(*inputs)
        done = state.round + rounds
        after = self.phases.within(done, min(after, self.rounds_per_call))
        if self.watch is None or not self.watch.sequential:
            last = supply.plans[-1].end if supply.plans else Reading()
            self._supplier.begin(done, after, last)
        record = (
            self.placement.gather(record.lanes),
            record.down,
            record.nominal_down,
            record.server,
            record.finite,
        )
        record = jax.device_get(rounds_.RoundRecord(*record))
        if self._host is not None:
            assert supply.states is not None
            self._host.keep(supply.ids, supply.states, store)
            store = ()
        seconds = time.perf_counter() - begin
        seconds -= self.compile_seconds - compiled_before
        count = metrics.rounds_run(record, rounds)
        clock = state.clock
        timed: list[Any] = [None] * count
        if self.watch is not None:
            sizes = [metrics.bytes_of(supply.ids[i], record, i) for i in range(count)]
            timed = self.watch.settle(supply.plans, sizes, clock, kept)
        rows = [
            metrics.line(
                state.round + i + 1, supply.ids[i], record, i, seconds / count, timed[i]
            )
            for i in range(count)
        ]
        done = rows[-1]["round"] - bool(rows[-1].get("diverged"))
        if self.watch is not None and done > state.round:
            clock = timed[done - state.round - 1].reading
        return RunState(server, store, done, clock), rows

    def _in_use(self, server: Server) -> np.ndarray:
        """Parameters in use in each layer before a round, for a clock of layers."""
        watch, local = self.watch, self.placement.local
        if watch is None or watch.timer.clock.layers is None:
            return np.zeros(0, int)
        seen = jax.device_get(self.algorithm.observe(local(server)))
        return watch.in_use(seen, local(self._fixed.params))

    def _inputs(self, state: RunState, supply: Supply) -> tuple:
        """The arguments of the program."""
        data, store = self._rows, state.store
        if supply.data is not None:
            data = supply.data
        if self._host is not None and supply.states is not None:
            self._host.renew(supply.ids, supply.states)
            store = supply.states.arrays()
        who = (
            supply.ids, supply.places, supply.slots, supply.tiers, supply.fates,
            supply.staleness,
        )  # fmt: skip
        seats = chunk.Seats(*self.placement.scatter(who, 1))
        number, count = np.int32(supply.first), np.int32(supply.rounds)
        return (
            data, self._root, self._fixed, state.server, store, seats, number, count,
        )  # fmt: skip
