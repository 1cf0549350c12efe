"""Sizes of pruned messages of trained weights, beside those of Grativol et al. 2023.

    python experiments/grativol2023/pruned_sizes.py runs/grativol/reference-e-1/seed-0

takes the weights of a finished run that neither prunes nor quantizes, prunes them at
each of the study's rates by its global threshold, and writes ``pruned_sizes.json`` and
``pruned_sizes.md`` beside this file. The study's sizes are of networks that were
trained with pruning. In MiB (2^20 bytes):

  ZIP        DEFLATE (level 6) of all parameters as little-endian float32 with their
             zeros, the plainest reading of "compressed with the ZIP algorithm"
  kept only  DEFLATE of the float32 that are not zero, and of a bitmap of where they are
  by place   the same, the four bytes of the floats each in a stream of its own
  packed     the message of the stage ``nonzero`` as a run is billed for it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from report import PUBLISHED, deflated, packed, zipped

from fedjax_compress import compress, prune, tree
from fedjax_compress.experiment import load_toml, trained

HERE = Path(__file__).parent
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def sizes(params: Any, rate: float) -> dict[str, float]:
    """All ways to count the message of the network pruned at a rate."""
    mask = prune.make_global_mask(params, rate)
    sent = jax.tree.map(lambda kept, w: np.where(kept, w, 0), mask, params)
    leaves = [np.asarray(leaf, "<f4").ravel() for leaf in jax.tree.leaves(sent)]
    values = np.concatenate(leaves)
    present = values != 0
    kept = values[present]
    places = kept.view(np.uint8).reshape(-1, 4).T
    bitmap = deflated(np.packbits(present).tobytes())
    return {
        "kept": float(present.mean()),
        "zip_mib": zipped(sent),
        "kept_only_mib": deflated(kept.tobytes()) + bitmap,
        "by_place_mib": sum(deflated(place.tobytes()) for place in places) + bitmap,
        "packed_mib": packed(sent, compress.parse("nonzero")),
        "published_mib": PUBLISHED[f"prune {100 * rate:.0f} %"][2],
    }


def table(lines: dict[str, dict[str, float]]) -> str:
    """Markdown: a line for each rate."""
    ways = ("zip_mib", "kept_only_mib", "by_place_mib", "packed_mib")
    titles = ["pruned", "published, MiB"]
    titles += [f"{w.removesuffix('_mib').replace('_', ' ')} (difference)" for w in ways]
    text = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for rate, line in lines.items():
        known = line["published_mib"]
        cells = [f"{line[w]:.2f} ({line[w] - known:+.2f})" for w in ways]
        text.append("| " + " | ".join([rate, f"{known:.2f}", *cells]) + " |")
    return "\n".join(text).replace("zip (", "ZIP (") + "\n"


def main() -> int:
    """The command line: the folder of a finished run of the whole network."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    if not (folder / "summary.json").is_file():
        print(f"{folder} holds no finished run", file=sys.stderr)
        return 2
    config = load_toml(folder / "config.toml")
    _, params = trained(folder)
    whole = tree.count(params) == 780_266
    if not whole or (config.qat, config.algorithm) != ("none", "fedavg"):
        print("give a run of a cell 'reference' of table1.toml", file=sys.stderr)
        return 2
    summary = json.loads((folder / "summary.json").read_text())
    lines = {f"{100 * rate:.0f} %": sizes(params, rate) for rate in RATES}
    found = {
        "rounds": summary["rounds"],
        "test_accuracy": summary["test_accuracy"],
        "parameters_sha256": summary["parameters_sha256"],
        "rates": lines,
    }
    (HERE / "pruned_sizes.json").write_text(json.dumps(found, indent=1) + "\n")
    text = (
        f"Weights after {summary['rounds']} rounds without pruning, "
        f"{100 * summary['test_accuracy']:.1f} % accurate.\n\n{table(lines)}"
    )
    (HERE / "pruned_sizes.md").write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
