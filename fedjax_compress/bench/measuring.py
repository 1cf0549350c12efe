"""Contenders in turn: round by round, each in a process of its own."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from fedjax_compress.bench.case import BOUND, ENGINE, LOOP, Case
from fedjax_compress.bench.process import Worker

Result = dict[str, Any]
_SOMETIMES = (
    "form",
    "tried_samples_per_second",
    "bytes_up_per_client",
    "bytes_down_per_client",
)
"""Facts that only some contenders tell."""
_BARE = ("identity", "identity")


def measure(
    cases: Sequence[Case],
    rounds: int,
    say: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Measures cases side by side; one result each, in order.

    All workers stand ready before the first turn. In each of ``rounds`` turns every
    case runs once, in order, and back in the next, so that what else the machine does
    meets all of them alike. Ratios are therefore also taken turn by turn.

    Args:
      cases: what to measure; at most one loop and one bound serve all of them.
      rounds: measured turns, after one round of warm-up.
      say: told what is going on.

    Raises:
      WorkerError: a worker died.
      InputError: a case that cannot be used.
    """
    with contextlib.ExitStack() as stack:
        workers = []
        for case in cases:
            say(f"{case}: compiling and warming up")
            workers.append(stack.enter_context(Worker(case)))
            workers[-1].wait()
        turns: list[list[dict[str, Any]]] = [[] for _ in cases]
        order = list(range(len(cases)))
        for number in range(rounds):
            for i in order:
                say(f"{cases[i]}: round {number + 1} of {rounds}")
                turns[i].append(workers[i].turn())
            order.reverse()
        results = [
            summarize(worker.case, worker.ready, found)
            for worker, found in zip(workers, turns, strict=True)
        ]
    return relate(results)


def summarize(case: Case, ready: dict[str, Any], turns: list[dict[str, Any]]) -> Result:
    """The figures of one case: medians over its turns."""
    rates = [turn["samples"] / turn["seconds"] for turn in turns]
    seconds = statistics.median(turn["seconds"] for turn in turns)
    rate = statistics.median(rates)
    last = turns[-1]
    facts = {**ready, **last}
    more = {name: facts[name] for name in _SOMETIMES if name in facts}
    is_engine = case.contender == ENGINE
    return {
        "workload": case.workload,
        "clients": case.clients,
        "population": case.registered,
        "contender": case.contender,
        "parameters": ready["parameters"],
        "lanes": facts["lanes"] if is_engine else None,
        "devices": facts["devices"] if is_engine else 1,
        "rounds_per_call": case.rounds_per_call if is_engine else None,
        "uplink": case.uplink if is_engine else None,
        "downlink": case.downlink if is_engine else None,
        "algorithm": case.algorithm if is_engine else None,
        "model": case.model or None,
        "qat": case.qat if is_engine else None,
        "clock": case.clock if is_engine else None,
        "rounds": len(turns),
        "seconds_per_round": seconds,
        "samples_per_second": rate,
        "clients_per_second": case.clients / seconds,
        # Other algorithms train other networks than the workload's.
        "gflops": rate * ready["flops_per_sample"] / 1e9
        if case.algorithm == "fedavg"
        else None,
        "compile_seconds": facts["compile_seconds"],
        "peak_rss_mb": last["peak_rss_mb"],
        "device_peak_mb": last["device_peak_mb"],
        "loss_initial": ready["loss_initial"],
        "loss_first": ready["loss_first"],
        "loss_last": last["loss"],
        "round_seconds": [turn["seconds"] for turn in turns],
        "round_samples": [turn["samples"] for turn in turns],
        "losses": [turn["loss"] for turn in turns],
        "platform": ready["platform"],
        "device_kind": ready["device_kind"],
        **more,
    }


def relate(results: list[Result]) -> list[Result]:
    """Adds how the results of one measurement stand to one another.

    ``share_of_bound`` and ``ratio_to_loop`` are quotients of median samples a second;
    those named ``paired_...`` are medians of the quotients turn by turn.
    ``time_to_first`` is the median, turn by turn, of the time beside that of the first
    engine. Where that one compresses nothing, ``coding_share`` is the share of a
    round's time that another's links take: (time - time of the first) / time, taken
    from that quotient. All are None where there is nothing to compare with.
    """
    base = {name: _first(results, name) for name in (ENGINE, LOOP, BOUND)}
    for found in results:
        for name, other in (
            ("share_of_bound", base[BOUND]),
            ("ratio_to_loop", base[LOOP]),
        ):
            found[name] = found[f"paired_{name}"] = None
            if other is not None:
                rate = found["samples_per_second"]
                found[name] = rate / other["samples_per_second"]
                found[f"paired_{name}"] = _paired(found, other)
        first = base[ENGINE] if found["contender"] == ENGINE else None
        found["time_to_first"] = None if first is None else _paired(first, found)
        found["coding_share"] = None
        if first is not None and _links(first) == _BARE != _links(found):
            found["coding_share"] = 1 - 1 / found["time_to_first"]
    return results


def _links(found: Result) -> tuple[str, str]:
    return found["uplink"], found["downlink"]


def _first(results: list[Result], contender: str) -> Result | None:
    return next((r for r in results if r["contender"] == contender), None)


def _paired(one: Result, other: Result) -> float:
    """The median over turns of the quotient of samples a second."""
    pairs = zip(_rates(one), _rates(other), strict=True)
    return statistics.median(a / b for a, b in pairs)


def _rates(found: Result) -> list[float]:
    pairs = zip(found["round_samples"], found["round_seconds"], strict=True)
    return [samples / seconds for samples, seconds in pairs]
