"""What compressing updates adds to a round, each uplink in turn with none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fedjax_compress import bench
from fedjax_compress.bench.contender import Contender, engine
from gpu_parts.measuring import Figure, Options, Piece, repeated, spread

UPLINKS = (
    "uniform(bits=4)",
    "hadamard | uniform(bits=4)",
    "top_k(0.01)",
    "error_feedback(top_k(0.01))",
    "error_feedback(hadamard | uniform(bits=4))",
)
FULL, QUICK = ("W1", 100), ("W2", 10)
"""Workload and clients a round. No others are registered: all rounds have the same
rows, and the residuals stay on the device."""


class Turns:
    """Rounds with an uplink in turn with rounds without.

    Args:
      options: of the part.
    """

    def __init__(self, options: Options):
        self.options = options
        name, clients = QUICK if options.quick else FULL
        self.case = bench.Case(name, clients, population=clients, devices=1)
        self.given = bench.workload(name, clients, clients)
        self.bare: Contender | None = None
        self.done = 0

    def against_none(self, uplink: str) -> Iterator[Figure]:
        """The ratio of the times of two rounds, one right after the other."""
        if self.bare is None:
            self.bare = engine(self.case, self.given)
            self.bare.run(0, 1)
        other = engine(self.case._replace(uplink=uplink), self.given)
        other.run(self.done, 1)
        bare: list[float] = []
        coded: list[float] = []

        def turn() -> float:
            self.done += 1
            assert self.bare is not None
            bare.append(self.bare.run(self.done, 1))
            coded.append(other.run(self.done, 1))
            return coded[-1] / bare[-1]

        least = 2 if self.options.quick else 5
        ratios = repeated(turn, self.options.budget(3.0), least, 31)
        about = other.about()
        yield {
            "name": f"{self.case.workload}, {self.case.clients} clients, {uplink}",
            "time_to_none": spread(ratios),
            "seconds_per_round": spread(coded),
            "seconds_per_round_with_none": spread(bare),
            "bytes_up_per_client": about["bytes_up_per_client"],
            "compile_seconds": round(about["compile_seconds"], 2),
            "lanes": about["lanes"],
            "convolution": about["convolution"],
            "registered": self.case.registered,
        }


def overhead(options: Options) -> list[Piece]:
    """A piece for each uplink; of those in a quick run, every other one."""
    work, uplinks = Turns(options), UPLINKS[:: 1 + options.quick]
    return [Piece(uplink, partial(work.against_none, uplink)) for uplink in uplinks]
