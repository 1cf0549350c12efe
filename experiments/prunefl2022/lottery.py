"""Lottery tickets: training once more within the final mask of a run of PruneFL.

    python experiments/prunefl2022/lottery.py runs/prunefl runs/tickets

makes two runs of as many rounds, ``same`` from the initial weights that the run had
itself and ``other`` from those of another seed, neither with a first stage. The mask is
where the run's final parameters are not zero; nothing is pruned any more.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from fedjax_compress import prune, registry
from fedjax_compress.algorithms.shared.mask_training import mask_training
from fedjax_compress.experiment import load_toml, resume, run, trained
from fedjax_compress.typing import Algorithm, Setup


@registry.register("algorithm", context=1)
def ticket(setup: Setup, of: str) -> Algorithm:
    """FedAvg within the mask that another run has ended with."""
    _, final = trained(of)

    def start(params):
        weights = prune.part(final, prune.prunable(params))
        return jax.tree.map(lambda w: jnp.asarray(w) != 0, weights), ()

    def refresh(server, mean, squares):
        return server.mask, jnp.zeros((), bool), ()

    return mask_training(setup, name="ticket", start=start, refresh=refresh)


def main() -> int:
    """The command line: a run, where to, and how many rounds if not as many."""
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    config = load_toml(source / "config.toml")
    rounds = int(sys.argv[3]) if len(sys.argv) == 4 else config.rounds
    for name, seed in (("same", config.seed), ("other", config.seed + 1)):
        place = folder / name
        if (place / "config.toml").is_file():
            resume(place)
            continue
        again = dataclasses.replace(
            config, algorithm=f"ticket(of='{source}')", seed=seed, rounds=rounds
        )
        run(again, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
