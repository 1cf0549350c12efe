"""A process that runs one contender and is told when: JSON lines on stdin and stdout.

Its arguments are Python files to import, for names that a case may have.

The first line that it reads is a case, and the first that it writes says that the
first round is done, with everything compiled. Then each line it reads means a turn,
and each that it writes is what the turn took. It ends where its input ends.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import jax

from fedjax_compress import tree
from fedjax_compress.bench.baselines import bound, loop
from fedjax_compress.bench.case import BOUND, ENGINE, LOOP, Case
from fedjax_compress.bench.contender import Contender, engine
from fedjax_compress.bench.workloads import Workload, with_model, with_qat, workload
from fedjax_compress.errors import InputError
from fedjax_compress.registry import imports
from fedjax_compress.runtime import host
from fedjax_compress.simulate import Evaluator

MAKERS: dict[str, Callable[[Case, Workload], Contender]] = {
    ENGINE: engine,
    LOOP: loop,
    BOUND: bound,
}


def serve(
    case: Case, orders: IO[str], answer: Callable[[dict[str, Any]], None]
) -> None:
    """Runs a case: one round at once, then one turn for each line of ``orders``."""
    given = workload(case.workload, case.clients, case.population)
    if case.model:
        given = with_model(given, case.model)
    if case.contender == ENGINE:
        given = with_qat(given, case.qat)
    evaluate = Evaluator(given.model, given.evaluation)
    contender = MAKERS[case.contender](case, given)
    initial = evaluate(given.params)["test_loss"]
    contender.run(0, 1)
    answer(
        {
            "loss_initial": initial,
            "loss_first": evaluate(contender.params())["test_loss"],
            "parameters": tree.count(given.params),
            "flops_per_sample": given.flops_per_sample,
            "platform": jax.devices()[0].platform,
            "device_kind": jax.devices()[0].device_kind,
            **contender.about(),
        }
    )
    done, rounds = 1, case.rounds_per_call
    for _ in orders:
        seconds = contender.run(done, rounds)
        samples = sum(contender.samples(done + i) for i in range(rounds))
        done += rounds
        answer(
            {
                "seconds": seconds / rounds,
                "samples": samples / rounds,
                "loss": evaluate(contender.params())["test_loss"],
                "peak_rss_mb": peak_memory(),
                "device_peak_mb": device_peak(),
                **contender.about(),
            }
        )


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MB (10^6 bytes).

    ``ru_maxrss`` may begin with the memory of the process that started this one, so
    the kernel's own figure comes first where there is one.
    """
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        line = next(s for s in status if s.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def device_peak() -> float | None:
    """The most memory taken on the first device so far, in MB, where it is known."""
    found = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None if found is None else found / 1e6


def main() -> int:
    """Reads the case and serves it; answers ``error`` where it cannot be used."""
    # Whatever libraries print goes to stderr: stdout is for answers.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=channel, flush=True)

    case = Case(**json.loads(sys.stdin.readline()))
    host.request_devices(
        case.devices or host.cores() if case.contender == ENGINE else 1
    )
    try:
        imports.bring(sys.argv[1:])
        host.start_devices()
        serve(case, sys.stdin, answer)
    except InputError as error:
        answer({"error": str(error)})
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
