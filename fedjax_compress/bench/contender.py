"""What a worker runs, and the simulator as one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from fedjax_compress import aggregate, clock, compress, local, registry, server
from fedjax_compress.bench.case import Case
from fedjax_compress.bench.workloads import Workload, task_of
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.tuning import Choice, tune
from fedjax_compress.simulate.work import work_of
from fedjax_compress.typing import Params, Population, Setup


class Contender(NamedTuple):
    """Steps through the rounds of a workload.

    Attributes:
      run: (first, rounds) -> seconds: runs the rounds first .. first + rounds - 1,
        counted from 0, and waits for the last. Rounds come in order.
      samples: number of a round -> rows that it trains on.
      params: () -> the parameters after the rounds so far.
      about: () -> facts known once it has run: ``compile_seconds`` at least.
    """

    run: Callable[[int, int], float]
    samples: Callable[[int], int]
    params: Callable[[], Params]
    about: Callable[[], dict[str, Any]]


def make_simulator(case: Case, given: Workload) -> Simulator:
    """The simulator of a case: the one place where its options are passed on."""
    trains = local.sgd(given.model, lr=given.lr, batch=given.batch, shuffle=False)
    algorithm = registry.build(
        "algorithm",
        case.algorithm,
        Setup(
            trains,
            aggregate.mean(),
            server.fedavg(lr=1.0),
            compress.parse(case.uplink),
            compress.parse(case.downlink),
            Population(task_of(given), given.data.clients, int(given.data.sizes.max())),
        ),
    )
    timed, work = clock.parse(case.clock), []
    if timed == clock.Clock() and algorithm.asynchronous is not None:
        raise InputError(f"{case.algorithm} waits for nobody; give a clock")
    if timed != clock.Clock():
        work = [work_of(algorithm, trains, given.model, task_of(given))]
    choice = Choice(case.lanes, case.devices, case.convolution)
    if case.tune:
        found = tune(
            algorithm, given.data, given.params, given.cohort(0), given.clients, choice
        )
        choice = found.choice
    return Simulator(
        algorithm,
        given.data,
        cohort=given.clients,
        sampling=given.sampling,
        lanes=choice.lanes,
        devices=choice.devices,
        convolution=choice.convolution,
        rounds_per_call=case.rounds_per_call,
        clock=timed if work else None,
        work=work,
    )


def engine(case: Case, given: Workload) -> Contender:
    """The simulator.

    Its time is that of ``advance``, from drawing the cohort to the records on the
    host, without compiling.
    """
    begin = time.perf_counter()
    simulator = make_simulator(case, given)
    tuned = time.perf_counter() - begin if case.tune else 0.0
    state = simulator.start(given.params)
    sent = {"bytes_up_per_client": 0, "bytes_down_per_client": 0}

    def run(first: int, rounds: int) -> float:
        nonlocal state
        compiled = simulator.compile_seconds
        begin = time.perf_counter()
        state, records = simulator.advance(state, rounds)
        jax.block_until_ready(state.server)
        seconds = time.perf_counter() - begin
        for way in ("up", "down"):
            total = sum(record[f"bytes_{way}"] for record in records)
            sent[f"bytes_{way}_per_client"] = total / (rounds * given.clients)
        return seconds - (simulator.compile_seconds - compiled)

    def about() -> dict[str, Any]:
        return {
            "compile_seconds": simulator.compile_seconds,
            "lanes": simulator.lanes,
            "devices": simulator.devices,
            "convolution": simulator.convolution,
            "tune_seconds": tuned,
            **sent,
        }

    def params() -> Params:
        return simulator.algorithm.network(state.server)[1]

    def samples(number: int) -> int:
        if simulator.timed is None:
            return given.samples(number)
        # The clock may have chosen others, all of whom have trained.
        return int(given.sizes[simulator.timed.plan.ids].sum())

    return Contender(run, samples, params, about)
