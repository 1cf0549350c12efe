"""W1 and W2 of ``fedjax-compress bench``: by clients a round, and by memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from fedjax_compress import aggregate, bench, compress, local, registry, server
from fedjax_compress.bench.contender import engine
from fedjax_compress.bench.worker import device_peak, peak_memory
from fedjax_compress.simulate.tuning import Choice, tune
from fedjax_compress.typing import Setup
from gpu_parts.measuring import Figure, Options, Piece, per_round, repeated

CLIENTS, QUICK_CLIENTS = (1_000, 100, 10_000), {"w1": (1,), "w2": (20, 40)}
"""Clients a round: the first is that for which a layout is searched."""


class Bench:
    """A workload by clients a round, in the layout that a search has found.

    Args:
      name: w1 or w2.
      options: of the part.
    """

    def __init__(self, name: str, options: Options):
        self.name, self.options = name.upper(), options
        self.layout: dict[str, Any] = {}

    def search(self, clients: int) -> Iterator[Figure]:
        """Lanes and form of convolutions, by real rounds of a few clients."""
        given = bench.workload(self.name, clients)
        algorithm = registry.build(
            "algorithm",
            "fedavg",
            Setup(
                local.sgd(given.model, lr=given.lr, batch=given.batch, shuffle=False),
                aggregate.mean(),
                server.fedavg(lr=1.0),
                compress.parse("identity"),
                compress.parse("identity"),
            ),
        )
        begin, seconds = time.perf_counter(), self.options.left() * 0.3
        found = tune(
            algorithm,
            given.data,
            given.params,
            given.cohort(0),
            clients,
            Choice(0, 1),
            seconds=1.0 if self.options.quick else seconds,
        )
        choice = found.choice
        self.layout = {"lanes": choice.lanes, "convolution": choice.convolution}
        yield {
            "name": f"{self.name}, {clients:,} clients, layout found",
            **self.layout,
            "seconds": round(time.perf_counter() - begin, 1),
            "gain_over_the_rule": round(found.gain, 3),
            "tried_rows_per_second": [
                [c.lanes, c.convolution, round(rate)] for c, rate in found.rates
            ],
        }

    def rounds(self, clients: int) -> Iterator[Figure]:
        """Rounds of so many clients."""
        case = bench.Case(self.name, clients, devices=1)._replace(**self.layout)
        yield measured(case, self.options)


def measured(case: bench.Case, options: Options) -> Figure:
    """Rounds of a case, after one that compiles and warms up."""
    given = bench.workload(case.workload, case.clients, case.population)
    contender, done = engine(case, given), 0
    contender.run(0, 1)
    rows: list[float] = []

    def once() -> float:
        nonlocal done
        done += 1
        rows.append(given.samples(done))
        return contender.run(done, 1)

    least = 2 if options.quick or case.clients >= 10_000 else 3
    seconds = repeated(once, options.budget(4.0), least)
    about, plural = contender.about(), "s" * (case.clients > 1)
    figure = per_round(
        f"{case.workload}, {case.clients:,} client{plural} a round",
        seconds,
        rows,
        compile_seconds=round(about["compile_seconds"], 2),
        lanes=about["lanes"],
        convolution=about["convolution"],
        registered=case.registered,
    )
    peak = device_peak()
    return figure | {
        "teraflops": float(
            f"{figure['rows_per_second']['median'] * given.flops_per_sample / 1e12:.4g}"
        ),
        "device_peak_mb": None if peak is None else round(peak),
        "process_peak_mb": round(peak_memory()),
    }


def _by_clients(name: str, options: Options) -> list[Piece]:
    first, *others = QUICK_CLIENTS[name] if options.quick else CLIENTS
    work = Bench(name, options)
    found = [Piece(f"layout at {first:,} clients", partial(work.search, first))]
    return found + [
        Piece(f"{clients:,} clients", partial(work.rounds, clients))
        for clients in (first, *others)
    ]


def w1(options: Options) -> list[Piece]:
    """The search, then the rounds."""
    return _by_clients("w1", options)


def w2(options: Options) -> list[Piece]:
    """Likewise."""
    return _by_clients("w2", options)


def memory(options: Options) -> list[Piece]:
    """One compiled step of ever more work: the peak is that of all so far."""
    each = [("W2", 100), ("W2", 10_000), ("W1", 10_000)]
    if options.quick:
        each = [("W2", 40)]

    def step(case: bench.Case) -> Iterator[Figure]:
        figure = measured(case, options)
        yield figure | {"note": "one program for the round; peak of the process so far"}

    return [
        Piece(
            f"{name}, {clients:,} clients",
            partial(step, bench.Case(name, clients, devices=1)),
        )
        for name, clients in each
    ]
