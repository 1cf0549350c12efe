"""What the loss of a transducer costs: time beside a plain one, memory by blocks.

Command::

    python experiments/performance/transducer_loss.py

Time: loss and gradient in the logits of ``rnnt_loss`` beside the recurrence as it is
written down, which goes over frames and, within a frame, over labels, its gradient by
automatic differentiation; both compiled, called in turn, the median of each; all rows
are full. Losses and gradients of the two are compared before. Memory: what XLA sets
aside beside arguments and results, there, and for loss and gradient in the frames, the
predictions and the weights of a joint network tanh(encoded + predicted) W, whose logits
are made for all nodes at once, or for some frames at a time by ``scored_nodes``; and
the time of these. Writes ``results/transducer_loss.json``.

Expected on two CPU cores: both losses take about as long on a small lattice, the plain
one 1.5 to 2 times as long on large ones, and 3 to 270 times the memory, as it keeps
several numbers of each logit. Blocks of 4 frames take a fifth of the memory of all
nodes at once where the lattice is small and a fiftieth where it is large, in up to two
thirds more time there and in less here. One minute.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedjax_compress.models.speech.transducer_loss import (
    rnnt_loss,
    scored_nodes,
    transducer_loss,
)
from fedjax_compress.typing import Array

RESULTS = Path(__file__).parent / "results" / "transducer_loss.json"
SHAPES = ((8, 60, 6, 11), (8, 100, 20, 32), (4, 200, 40, 128), (1, 400, 80, 1024))
"""Rows, frames, labels, symbols."""
WIDTH = 64
"""Of the joint network."""
BLOCKS = (0, 4, 16)
CALLS = 9


def plain(logits: Array, labels: Array) -> Array:
    """alpha(t, u) from alpha(t - 1, u) and alpha(t, u - 1), for rows that are full."""
    scores = jax.nn.log_softmax(logits, axis=-1)
    blank = scores[..., 0]
    index = labels[:, None, :, None]
    index = jnp.broadcast_to(index, (*scores.shape[:2], labels.shape[1], 1))
    label = jnp.take_along_axis(scores[:, :, :-1], index, axis=-1)[..., 0]

    def along(before: Array, here: tuple[Array, Array]) -> tuple[Array, Array]:
        came, emitted = here
        alpha = jnp.logaddexp(came, before + emitted)
        return alpha, alpha

    def within(came: Array, emitted: Array) -> Array:
        """A frame's alphas [nodes, rows], from those that came by a blank."""
        _, rest = lax.scan(along, came[0], (came[1:], emitted))
        return jnp.concatenate([came[:1], rest])

    def frame(alpha: Array, here: tuple[Array, Array]) -> tuple[Array, None]:
        blanks, emitted = here
        return within(alpha + blanks, emitted), None

    blank, label = (jnp.transpose(x, (1, 2, 0)) for x in (blank, label))
    first = jnp.full(blank.shape[1:], -1e30).at[0].set(0.0)
    alpha, _ = lax.scan(frame, within(first, label[0]), (blank[:-1], label[1:]))
    return -(alpha[-1] + blank[-1, -1])


def compiled(function: Callable, *arguments: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - begin


def in_turn(programs: dict[Any, Callable]) -> dict[Any, float]:
    """Median milliseconds of programs that are called one after the other."""
    seconds: dict[Any, list[float]] = {name: [] for name in programs}
    for _ in range(CALLS):
        for name, call in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - begin)
    return {n: round(1e3 * statistics.median(s[1:]), 2) for n, s in seconds.items()}


def temporary(program: Any) -> float:
    """MiB that a program needs beside what it is given and gives back."""
    return round(program.memory_analysis().temp_size_in_bytes / 2**20, 2)


def drawn(shape: tuple[int, ...], seed: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def of_loss(shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """Our loss and the plain one, from logits."""
    rows, frames, longest, symbols = shape
    logits = drawn((rows, frames, longest + 1, symbols), 0)
    labels = np.random.default_rng(1).integers(1, symbols, (rows, longest))
    said = jnp.asarray(labels, jnp.int32)
    full = jnp.full(rows, frames, jnp.int32), jnp.full(rows, longest, jnp.int32)
    losses = {
        "ours": lambda x: jnp.sum(rnnt_loss(x, said, *full)),
        "plain": lambda x: jnp.sum(plain(x, said)),
    }
    programs, found = {}, {}
    for name, loss in losses.items():
        programs[name], seconds = compiled(jax.value_and_grad(loss), logits)
        found[name] = {
            "compile_seconds": round(seconds, 2),
            "temporary_mib": temporary(programs[name]),
        }
    (one, of_one), (other, of_other) = (p(logits) for p in programs.values())
    np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(of_one, of_other, atol=2e-3)
    difference = float(jnp.max(jnp.abs(of_one - of_other)))
    calls = {n: (lambda p=p: p(logits)) for n, p in programs.items()}
    for name, milliseconds in in_turn(calls).items():
        found[name]["milliseconds"] = milliseconds
    return found | {"largest_difference_of_gradients": difference}


def of_joint(shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """The loss through a joint network, by how many frames are scored at a time."""
    rows, frames, longest, symbols = shape
    weights = {"kernel": drawn((WIDTH, symbols), 2), "bias": drawn((symbols,), 3)}
    encoded = drawn((rows, frames, WIDTH), 4)
    predicted = drawn((rows, longest + 1, WIDTH), 5)
    labels = np.random.default_rng(1).integers(1, symbols, (rows, longest))
    said = jnp.asarray(labels, jnp.int32)
    full = jnp.full(rows, frames, jnp.int32), jnp.full(rows, longest, jnp.int32)

    def cost(given: tuple, block: int) -> Array:
        weights, encoded, predicted = given

        def joint(part: Array) -> Array:
            both = jnp.tanh(part[:, :, None] + predicted[:, None])
            return both @ weights["kernel"] + weights["bias"]

        if not block:
            return jnp.sum(rnnt_loss(joint(encoded), said, *full))
        scores = scored_nodes(joint, encoded, said, block=block)
        return jnp.sum(transducer_loss(*scores, *full))

    given = weights, encoded, predicted
    programs = {
        block: compiled(jax.value_and_grad(lambda x, b=block: cost(x, b)), given)[0]
        for block in BLOCKS
    }
    values = [float(p(given)[0]) for p in programs.values()]
    np.testing.assert_allclose(values, values[0], rtol=1e-5)
    times = in_turn({b: (lambda p=p: p(given)) for b, p in programs.items()})
    logits = rows * frames * (longest + 1) * symbols * 4 / 2**20
    return {"logits_mib": round(logits, 2)} | {
        f"block {b}" if b else "all nodes at once": {
            "temporary_mib": temporary(p),
            "milliseconds": times[b],
        }
        for b, p in programs.items()
    }


def main() -> None:
    device = f"{os.cpu_count()} x {jax.devices()[0].device_kind}"
    results: dict[str, Any] = {"jax": jax.__version__, "device": device}
    for name, measure in {"loss": of_loss, "joint": of_joint}.items():
        for shape in SHAPES:
            key = "rows {}, frames {}, labels {}, symbols {}".format(*shape)
            results.setdefault(name, {})[key] = found = measure(shape)
            print(f"{name}, {key}: {json.dumps(found)}", flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
