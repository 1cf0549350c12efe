"""How long programs take to compile: the round of every algorithm, every stage alone.

Command, in each environment whose versions are to be compared::

    python experiments/performance/compile_times.py

For each algorithm the default run with it (one round, two devices, ten lanes); for each
stage and compressor one message of the default model, encoded, decoded and counted. A
name that needs options has them in ``OPTIONS``. Processor seconds, which other work on
the machine disturbs less, of tracing and lowering, and of compiling. Nothing is taken
from a cache. Adds the figures to ``results/compile_times.json``, by version of
jax, and prints them beside those that are there. Three minutes on two CPU cores.

A figure that is many times that of its neighbours, or of the other version, says that a
compiler computes the same thing again and again: a program of n steps, each of which
reads the one before twice, has 2^n of them written out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["FEDJAX_COMPRESS_CACHE"] = "off"

import jax

from fedjax_compress import compress, registry, wire
from fedjax_compress.experiment import Config
from fedjax_compress.experiment.build import build, load_data, request_devices
from fedjax_compress.simulate import program_cache
from fedjax_compress.simulate.compiling import compile_program
from fedjax_compress.typing import Coin

RESULTS = Path(__file__).parent / "results" / "compile_times.json"
OPTIONS = {
    "top_k": "top_k(0.01)",
    "random_k": "random_k(0.01)",
    "subsample": "subsample(0.1)",
    "count_sketch": "count_sketch(rows=5, columns=1000)",
    "on_leaves": "on_leaves(hadamard | uniform(bits=4))",
    "on_vector": "on_vector(hadamard | uniform(bits=4))",
    "by_label": "by_label(uniform(bits=4), output=cast)",
    "strom": "strom(0.01)",
    "dryden": "dryden(0.01)",
    "stc": "stc(0.01)",
    "error_feedback": "error_feedback(top_k(0.01))",
    "heterofl": "heterofl(rates=(1.0, 0.5))",
    "fjord": "fjord(rates=(1.0, 0.5))",
    "federated_dropout": "federated_dropout(keep_rate=0.5)",
    "federated_pruning": "federated_pruning(sparsity=one_shot(0.5))",
    "lotteryfl": "lotteryfl(threshold=0.4)",
    "prunefl": "prunefl(times=own, computation=(1e-6, 2e-6, 3e-6))",
    "structured_updates": "structured_updates(fraction=0.5)",
}
LINKS = {
    "fetch_sgd": {"uplink": "identity", "server": "fedavg"},
    "heterofl": {"server": "fedavg"},
    "fjord": {"server": "fedavg"},
    "magnitude_pruning": {"server": "fedavg"},
    "federated_pruning": {"uplink": "identity", "downlink": "identity"},
    "lotteryfl": {"uplink": "identity", "downlink": "identity", "server": "fedavg"},
    "prunefl": {"uplink": "identity", "downlink": "identity", "server": "fedavg"},
}
"""For those that do not take the default links."""


def timed(lower: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """A program and the seconds that lowering and compiling it took."""
    start = time.process_time()
    lowered = lower()
    middle = time.process_time()
    program = compile_program(lowered)
    return program, {
        "lower": round(middle - start, 3),
        "compile": round(time.process_time() - middle, 3),
    }


def algorithm(name: str) -> dict[str, float]:
    """Of the first round of the default run with an algorithm."""
    settings = {"algorithm": OPTIONS.get(name, name), "rounds": 1, "tune": "never"}
    config = Config(**(settings | LINKS.get(name, {})), lanes=10, devices=2)
    parts = build(config, load_data(config))
    found: dict[str, float] = {}

    def keep(what: Any, inputs: Any, devices: Any, lower: Callable[[], Any]) -> Any:
        program, seconds = timed(lower)
        found.update(seconds)
        return program

    usual, program_cache.find = program_cache.find, keep
    try:
        parts.simulator.advance(parts.simulator.start(parts.params), 1)
    finally:
        program_cache.find = usual
    return found


def stage(name: str) -> dict[str, float]:
    """Of one message of the default model."""
    compressor = compress.parse(OPTIONS.get(name, name))
    config = Config()
    params = build(config, load_data(config)).params
    keys = jax.random.split(jax.random.key(0))

    def message(tree: Any, state: Any, coin: Coin) -> Any:
        payload, state = compressor.encode(tree, state, coin)
        return compressor.decode(payload, tree, coin.shared), state, wire.bits(payload)

    inputs = params, compressor.init(params), Coin(keys[0], keys[1])
    return timed(lambda: jax.jit(message).lower(*inputs))[1]


def main() -> None:
    request_devices(2)
    only = sys.argv[1:]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    mine = results.setdefault(f"jax {jax.__version__}", {})
    kinds = {"algorithm": algorithm, "stage": stage, "compressor": stage}
    for kind, measure in kinds.items():
        for name in registry.entries(kind):
            if only and name not in only:
                continue
            mine[f"{kind} {name}"] = measure(name)
            every = [
                f"{version} {rows.get(f'{kind} {name}', '-')}"
                for version, rows in results.items()
            ]
            print(f"{kind} {name}: {'; '.join(every)}", flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
