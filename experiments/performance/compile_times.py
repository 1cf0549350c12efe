"""How long programs take to compile: the round of every algorithm, every stage alone.

Command, in each environment whose versions are to be compared::

    python experiments/performance/compile_times.py

For each algorithm the default run with it (one round, two devices, ten lanes): tracing,
lowering and compiling its round, as ``summary.json`` has it. For each stage and
compressor one message of the default model, encoded, decoded and counted. Options of
those that need some stand in ``OPTIONS``. Wall-clock seconds; nothing is taken from a
cache. Adds the figures to ``results/compile_times.json``, by version of jax, and prints
them beside those that are there. Three minutes on two idle CPU cores.

A figure that is many times that of its neighbours, or of the other version, says that a
compiler computes the same thing again and again: a program of n steps, each of which
reads the one before twice, has 2^n of them written out.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from fedjax_compress import compress, data, models, registry, wire
from fedjax_compress.experiment import Config, run
from fedjax_compress.typing import Keys

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


def algorithm(name: str) -> float:
    """Of the first round of the default run with an algorithm."""
    settings = {"algorithm": OPTIONS.get(name, name)} | LINKS.get(name, {})
    config = Config(rounds=1, tune="never", lanes=10, devices=2, **settings)
    with tempfile.TemporaryDirectory() as folder:
        summary = run(config, Path(folder, "run"), quiet=True)
    return float(summary["compile_seconds"])


def stage(name: str) -> float:
    """Of one message of the default model."""
    compressor = compress.parse(OPTIONS.get(name, name))
    model = models.mlp(data.digits().task, hidden=(128, 64))
    params = jax.eval_shape(model.init, jax.random.key(0))
    both = jax.random.split(jax.random.key(0))

    def message(tree: Any, state: Any, keys: Keys) -> Any:
        payload, state = compressor.encode(tree, state, keys)
        return compressor.decode(payload, tree, keys.shared), state, wire.bits(payload)

    inputs = params, compressor.init(params), Keys(both[0], both[1])
    begin = time.perf_counter()
    jax.jit(message).lower(*inputs).compile()
    return time.perf_counter() - begin


def main() -> None:
    only = sys.argv[1:]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    mine = results.setdefault(f"jax {jax.__version__}", {})
    kinds = {"algorithm": algorithm, "stage": stage, "compressor": stage}
    for kind, measure in kinds.items():
        for name in registry.entries(kind):
            if only and name not in only:
                continue
            mine[f"{kind} {name}"] = round(measure(name), 2)
            found = [
                f"{version} {rows.get(f'{kind} {name}', '-')} s"
                for version, rows in results.items()
            ]
            print(f"{kind} {name}: {'; '.join(found)}", flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
