"""Error of each coder beside its bits, on random vectors and on real updates.

Command::

    python experiments/survey2020/errors.py --config experiments/mnist_writers/fp32.toml

For each coder the bits of the message per element, and ||C(x) - x||^2 / ||x||^2, means
over 5 draws of the vector and of the coder's randomness:

- gaussian: 65,536 independent normal numbers;
- heavy: the same of Student's t with 3 degrees of freedom;
- sparse: normal numbers in 1 % of 65,536 places, zero elsewhere;
- update: what a client sends after local training, leaf by leaf, after 20 rounds of
  the configuration; without ``--config`` those of the MLP on the digits.

The bits are those of the Gaussian message, and of the update; for codes of fixed
length those of the others are the same.
Coders that keep a residual are measured in their first round. Where theory has a value
for the Gaussian it stands beside it. Writes ``errors.json`` and ``errors.md`` beside
this file. About five minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import compress, registry, tree, wire
from fedjax_compress.experiment import Config, load_toml
from fedjax_compress.experiment.build import build
from fedjax_compress.typing import Context, Keys, Problem

HERE = Path(__file__).parent
N, DRAWS = 65_536, 5
CODERS = {
    "one_bit": 1 - 2 / np.pi,
    "sign": 1 - 2 / np.pi,
    "drive": np.pi / 2 - 1,
    "drive(scale=mmse)": 1 - 2 / np.pi,
    "quic_fl": 8.597,
    "hadamard | uniform(bits=1)": None,
    "kashin | uniform(bits=1)": None,
    "uniform(bits=1)": None,
    "terngrad": None,
    "terngrad(clip=0)": None,
    "eden(bits=2)": 0.13312,
    "hadamard | uniform(bits=2)": None,
    "qsgd(bits=2, bucket=128)": None,
    "eden(bits=3)": 0.03578,
    "eden(bits=4)": 0.00959,
    "hadamard | uniform(bits=4)": None,
    "qsgd(bits=4)": 0.037,
    "qsgd(bits=4, norm=l2, code=stream)": 1.58,
    "uniform(bits=4)": None,
    "dorefa_gradient(bits=4)": None,
    "uniform(bits=8)": None,
    "qsgd(bits=8)": 0.0001,
    "dorefa_gradient(bits=8)": None,
    "power_sgd(2)": None,
    "count_sketch(5, 1000)": None,
    "random_k(0.01, rescale=false)": 0.99,
    "top_k(0.01)": 0.915,
    "top_k(0.01) | qsgd(bits=4)": None,
    "stc(0.01)": None,
    "dryden(0.01)": None,
    "dgc(sparsity=0.99)": 0.915,
    "gradient_dropping(0.99)": 0.915,
    "adacomp": None,
    "caldas(bits=2)": None,
    "fedpaq(bits=4)": None,
    "cast": None,
}
"""Specification -> the value for Gaussian vectors, where theory or a paper has one.

1 - 2/pi and pi/2 - 1: one bit with the best and with the unbiased scale. EDEN:
D / (1 - D) with D the distortion of Lloyd and Max. QSGD in buckets of 512: from
simulations. QUIC-FL without shared randomness: the integral of (T^2 - z^2) to T. Top-k:
the largest 1 % of a normal vector hold 8.5 % of its energy.
"""


def vectors(seed: int) -> dict[str, dict[str, jax.Array]]:
    """One tree for each kind of vector."""
    rng = np.random.default_rng(seed)
    sparse = np.where(rng.random(N) < 0.01, rng.normal(size=N), 0)
    made = {
        "gaussian": rng.normal(size=N),
        "heavy": rng.standard_t(3, N),
        "sparse": sparse,
    }
    return {k: {"x": jnp.asarray(v, jnp.float32)} for k, v in made.items()}


def updates(config: Config, rounds: int) -> list:
    """What the first clients would send after so many rounds."""
    parts = build(config)
    state = parts.simulator.start(parts.params)
    state, _ = parts.simulator.advance(state, rounds)
    server = parts.simulator.placement.local(state.server)
    params = jax.tree.map(
        jnp.asarray, jax.device_get(parts.algorithm.network(server)[1])
    )
    local = registry.build("local", config.local, parts.model)
    data = jax.tree.map(jnp.asarray, parts.data)

    @jax.jit
    def train(client: jax.Array) -> dict:
        shard = data.shard(client, data.size_of(client))
        key, number = jax.random.key(client), jnp.int32(rounds)
        known = {"examples": shard.size}
        context = Context(Keys(key, key), number, key, parts.params, known)
        problem = Problem(params, memory=local.init(params))
        return local.run(problem, shard, context).update

    return [train(jnp.int32(client)) for client in range(DRAWS)]


def measure(spec: str, trees: list) -> tuple[float, float]:
    """Mean bits an element and mean relative error."""
    compressor = compress.parse(spec)

    @jax.jit
    def once(values: dict, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = Keys(*jax.random.split(jax.random.key(seed)))
        payload, _ = compressor.encode(values, compressor.init(values), keys)
        found = compressor.decode(payload, values, keys.shared)
        lost = tree.squared_norm(tree.subtract(found, values))
        return wire.bits(payload), lost / tree.squared_norm(values)

    found = [once(values, jnp.uint32(seed)) for seed, values in enumerate(trees)]
    bits = np.mean([int(b) for b, _ in found]) / tree.count(trees[0])
    return float(bits), float(np.mean([float(e) for _, e in found]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", help="a run whose updates are measured, TOML")
    given = parser.parse_args().config
    config = load_toml(Path(given)) if given else Config()
    config = replace(config, uplink="identity", downlink="identity")
    kinds = {k: [vectors(s)[k] for s in range(DRAWS)] for k in vectors(0)}
    kinds["update"] = updates(config, 20)
    rows = []
    for spec, theory in CODERS.items():
        row: dict = {"coder": spec, "theory_gaussian": theory}
        for kind, trees in kinds.items():
            row[f"{kind}_bits"], row[f"{kind}_error"] = measure(spec, trees)
        rows.append(row)
        print(spec, {k: v for k, v in row.items() if k != "coder"}, flush=True)
    about = {"update": config.data, "model": config.model, "draws": DRAWS, "n": N}
    (HERE / "errors.json").write_text(
        json.dumps({"about": about, "rows": rows}, indent=1) + "\n"
    )
    names = ["coder", "bits, gaussian", "gaussian", "theory", "heavy", "sparse"]
    names += ["update", "bits, update"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in rows:
        theory = row["theory_gaussian"]
        errors = [
            row[f"{kind}_error"] for kind in ("gaussian", "heavy", "sparse", "update")
        ]
        cells = [f"{error:.3g}" for error in errors]
        cells.insert(1, "" if theory is None else f"{theory:.3g}")
        coder = row["coder"].replace("|", "\\|")
        bits = f"{row['gaussian_bits']:.3g}", f"{row['update_bits']:.3g}"
        lines.append(f"| `{coder}` | {bits[0]} | {' | '.join(cells)} | {bits[1]} |")
    (HERE / "errors.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
