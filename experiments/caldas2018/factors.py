"""How many times fewer bytes a message of a submodel has than the whole model in FP32.

    python experiments/caldas2018/factors.py

writes ``factors.md`` beside this file. Nothing is trained: sizes follow from shapes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_compress import compress, registry, submodel, tree, wire
from fedjax_compress.models import cost
from fedjax_compress.typing import Keys, Model, Task

HERE = Path(__file__).parent
NETWORKS = {
    "MNIST": ("cnn", Task((28, 28), 10)),
    "EMNIST": ("cnn(dense=2048)", Task((28, 28), 62)),
}
CODERS = {
    "FP32": ("identity", 32),
    "Kashin 4 bit": ("by_label(caldas(bits=4), bias=identity)", 4),
    "rotated 4 bit": (
        "by_label(caldas(transform=hadamard, bits=4), bias=identity)",
        4,
    ),
    "Kashin 2 bit": ("by_label(caldas(bits=2), bias=identity)", 2),
    "half of Kashin 4 bit": (
        "by_label(caldas(fraction=0.5, bits=4), bias=identity)",
        2,
    ),
    "rotated 2 bit": (
        "by_label(caldas(transform=hadamard, bits=2), bias=identity)",
        2,
    ),
}


def message(model: Model, text: str) -> Any:
    """A message of the model's size, all zeros."""
    compressor, key = compress.parse(text), jax.random.key(0)
    params = jax.eval_shape(model.init, key)
    keys = Keys(key, key)
    made = jax.eval_shape(lambda p: compressor.encode(p, (), keys)[0], params)
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), made)


def lines() -> list[str]:
    """The table."""
    found = [
        "| network | keep rate | coder | paper's arithmetic | nominal | true "
        "| multiplications |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (text, task) in NETWORKS.items():
        whole = registry.build("model", text, task)
        full = cost(whole, task)
        for rate in (0.75, 0.5):
            assert whole.cuts is not None
            small = whole.cuts.narrow(submodel.counts(whole.cuts, rate))
            macs = full.macs / cost(small, task).macs
            for coder, (spec, bits) in CODERS.items():
                sent = message(small, spec)
                fp32 = 4 * tree.count(jax.eval_shape(whole.init, jax.random.key(0)))
                arithmetic = 32 / bits / rate**2
                nominal = fp32 / int(wire.nominal_size(sent))
                true = fp32 / int(wire.size(sent))
                found.append(
                    f"| {name} | {rate} | {coder} | {arithmetic:.1f} | {nominal:.1f} "
                    f"| {true:.1f} | 1 / {macs:.2f} |"
                )
    return found


if __name__ == "__main__":
    (HERE / "factors.md").write_text("\n".join(lines()) + "\n")
