"""The loss of a transducer, written from the paper in float64, and small helpers."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.models.speech.transducer_loss import rnnt_loss


def ints(*numbers: int):
    return jnp.array(numbers, jnp.int32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def one_by_one(logits, labels, blank=0) -> float:
    """-log of the sum over all alignments of one row, float64: in which order frames +
    labels steps are blanks and labels, the last of which is a blank."""
    scores = log_softmax(np.asarray(logits, np.float64))
    frames, steps = len(scores), len(scores) + len(labels)
    chances = []
    for said in itertools.combinations(range(steps - 1), len(labels)):
        t = u = 0
        total = 0.0
        for n in range(steps):
            total += scores[t, u, labels[u] if n in said else blank]
            t, u = (t, u + 1) if n in said else (t + 1, u)
        assert (t, u) == (frames, len(labels))
        chances.append(total)
    assert len(chances) == math.comb(steps - 1, len(labels))
    return -float(np.logaddexp.reduce(chances))


def lattice(blank, label) -> tuple[float, np.ndarray, np.ndarray]:
    """-log P and its gradients, float64, a node after another."""
    frames, nodes = blank.shape
    alpha = np.full((frames + 1, nodes), -np.inf)
    beta = np.full((frames + 1, nodes + 1), -np.inf)
    alpha[0, 0] = beta[frames, nodes - 1] = 0.0
    for t in range(frames):
        for u in range(nodes):
            if u:
                alpha[t, u] = np.logaddexp(
                    alpha[t, u], alpha[t, u - 1] + label[t, u - 1]
                )
            alpha[t + 1, u] = alpha[t, u] + blank[t, u]
    for t, u in itertools.product(reversed(range(frames)), reversed(range(nodes))):
        beta[t, u] = beta[t + 1, u] + blank[t, u]
        if u < nodes - 1:
            beta[t, u] = np.logaddexp(beta[t, u], beta[t, u + 1] + label[t, u])
    total, a = alpha[frames, -1], alpha[:frames]
    of_blank = -np.exp(a + blank + beta[1:, :nodes] - total)
    of_label = -np.exp(a[:, :-1] + label + beta[:frames, 1:nodes] - total)
    return -total, of_blank, of_label


def slopes(loss, x: np.ndarray, width: float = 1e-5) -> np.ndarray:
    """By central differences, of a loss in float64."""
    found = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[place] += width
        down[place] -= width
        found[place] = (loss(up) - loss(down)) / (2 * width)
    return found


def by_lattice(logits, labels, blank=0) -> tuple[float, np.ndarray]:
    """-log P of one row of logits and its gradient, float64."""
    scores = log_softmax(np.asarray(logits, np.float64))
    place = np.arange(len(labels))
    said = scores[:, place, labels]
    total, of_blank, of_label = lattice(scores[..., blank], said)
    grad = np.zeros_like(scores)
    grad[..., blank] = of_blank
    grad[:, place, labels] += of_label
    return total, grad - np.exp(scores) * grad.sum(-1, keepdims=True)


@functools.partial(jax.jit, static_argnums=4)
def with_gradient(logits, labels, lengths, label_lengths, blank=0):
    """Losses, and the gradient of their sum weighed by 1, 2, ..."""
    loss, pull = jax.vjp(
        lambda x: rnnt_loss(x, labels, lengths, label_lengths, blank), logits
    )
    return loss, pull(jnp.arange(1, len(loss) + 1, dtype=jnp.float32))[0]
