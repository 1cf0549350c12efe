"""The loss of a transducer: -log P of labels that are not aligned with the frames.

A node (t, u) of the lattice stands for t frames read and u labels said. From there a
blank leads to (t + 1, u) and the next label to (t, u + 1); what is summed are all ways
from (0, 0) to (frames, labels), each of which ends with a blank. With b and e the
log-probabilities of the blank and of the next label at a node::

    alpha(0, 0) = 0
    alpha(t, u) = LSE(alpha(t - 1, u) + b(t - 1, u), alpha(t, u - 1) + e(t, u - 1))
    beta(frames, labels) = 0
    beta(t, u) = LSE(beta(t + 1, u) + b(t, u), beta(t, u + 1) + e(t, u))
    log P = alpha(frames, labels) = beta(0, 0)

Both recurrences go from one anti-diagonal t + u = n to the next, all of whose nodes are
done at once. Each way has one node on each diagonal, so the sum of exp(alpha + beta)
over any of them is P.

Reference: A. Graves, Sequence Transduction with Recurrent Neural Networks, 2012,
section 2.4. The lattice is tilted as in T. Bagby, K. Rao and K. C. Sim, 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array

_NEVER = -1e30  # the logarithm of no chance; its sums over a lattice stay finite


def transducer_loss(
    blank: Array, label: Array, lengths: Array, label_lengths: Array
) -> Array:
    """-log P of each row's labels, in nats, from what each node of its lattice says.

    Nothing that stands behind a row's lengths changes anything, NaN neither, and its
    gradient is 0. A row of no frames is filling: its loss is 0 and so are its
    gradients. A row that is said to be longer than there is room has a loss of NaN.
    Reverse mode only.

    Args:
      blank: [batch, frames, longest + 1], log-probability of the blank at each node, of
        any float dtype.
      label: [batch, frames, longest], that of label u + 1 at node (t, u).
      lengths: integer [batch], frames of each row.
      label_lengths: integer [batch], labels of each row; 0 leaves the sum of blanks.

    Returns:
      float32 [batch].

    Raises:
      InputError: the shapes do not belong together.
    """
    shapes = [x.shape for x in (blank, label, lengths, label_lengths)]
    batch, frames, nodes = shapes[0] if blank.ndim == 3 else (0, 0, 0)
    wanted = [(batch, frames, nodes), (batch, frames, nodes - 1), (batch,), (batch,)]
    if shapes != wanted:
        raise InputError(
            "blank [batch, frames, longest + 1], label [batch, frames, longest] and "
            f"two lengths [batch] do not have shapes {', '.join(map(str, shapes))}"
        )
    lengths, labels = (n.astype(jnp.int32) for n in (lengths, label_lengths))
    left = lengths[:, None, None] - jnp.arange(frames, dtype=jnp.int32)[None, :, None]
    more = labels[:, None, None] - jnp.arange(nodes, dtype=jnp.int32)[None, None]
    stay = _only(blank, (left > 0) & (more >= 0))
    said = jnp.pad(label, ((0, 0), (0, 0), (0, 1)))
    said = _only(said, (left > 0) & (more > 0))
    steps = jnp.where(lengths > 0, lengths + labels, 0)
    found = _cost(_tilted(stay), _tilted(said), steps, labels)
    return jnp.where((lengths <= frames) & (labels < nodes), found, jnp.nan)


def rnnt_loss(
    logits: Array, labels: Array, lengths: Array, label_lengths: Array, blank: int = 0
) -> Array:
    """-log P of each row's labels, in nats, from the logits of every node.

    Args:
      logits: [batch, frames, longest + 1, symbols], of any float dtype.
      labels: integer [batch, longest], symbols other than the blank; what stands behind
        a row's ``label_lengths`` is not read.
      lengths: integer [batch], frames of each row.
      label_lengths: integer [batch], labels of each row.
      blank: the symbol that stands for none.

    Returns:
      float32 [batch].

    Raises:
      InputError: the shapes do not belong together.
    """
    blanks, said = _kept(logits, labels, blank)
    return transducer_loss(blanks, said, lengths, label_lengths)


def scored_nodes(
    joint: Callable[[Array], Array],
    encoded: Array,
    labels: Array,
    blank: int = 0,
    block: int = 0,
) -> tuple[Array, Array]:
    """What ``transducer_loss`` reads, some frames at a time.

    The logits of all nodes are ``symbols`` times as many numbers as the loss needs of
    them. With a ``block`` they are never held together: the backward pass makes those
    of a block again.

    Args:
      joint: encoded [batch, block, width] -> logits [batch, block, longest + 1,
        symbols]; it sees each frame by itself, and may close over parameters.
      encoded: [batch, frames, width], the frames as the encoder gives them.
      labels: integer [batch, longest].
      blank: the symbol that stands for none.
      block: frames at a time; 0 for all at once, whose logits are kept.

    Returns:
      float32 [batch, frames, longest + 1] and [batch, frames, longest], the
      log-probabilities of the blank and of the next label.

    Raises:
      InputError: the shapes do not belong together.
    """
    if block < 0:
        raise InputError(f"block must be at least 0, not {block}")
    if not block:
        return _kept(joint(encoded), labels, blank)
    batch, frames, width = encoded.shape
    block = min(block, frames)
    many = -(-frames // block)
    more = many * block - frames
    padded = jnp.pad(encoded, ((0, 0), (0, more), (0, 0)))
    blocks = jnp.swapaxes(padded.reshape(batch, many, block, width), 0, 1)

    @jax.checkpoint
    def score(part: Array) -> tuple[Array, Array]:
        return _kept(joint(part), labels, blank)

    def joined(found: Array) -> Array:
        found = jnp.swapaxes(found, 0, 1)
        return found.reshape(batch, many * block, found.shape[-1])[:, :frames]

    blanks, said = lax.map(score, blocks)
    return joined(blanks), joined(said)


def _kept(logits: Array, labels: Array, blank: int) -> tuple[Array, Array]:
    """Log-probabilities of the blank and of the next label at each node, float32."""
    found, rows = logits.shape, labels.shape
    if len(found) != 4 or (found[0], found[2] - 1) != rows:
        raise InputError(
            "logits [batch, frames, longest + 1, symbols] and labels [batch, longest] "
            f"do not have shapes {found} and {rows}"
        )
    if not 0 <= blank < found[3]:
        raise InputError(f"blank must be one of {found[3]} symbols, not {blank}")
    none_last = jnp.pad(labels.astype(jnp.int32), ((0, 0), (0, 1)), constant_values=-1)
    blanks, said = _entries(logits, none_last, blank)
    return blanks, said[:, :, :-1]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _entries(logits: Array, labels: Array, blank: int) -> tuple[Array, Array]:
    """Log-probabilities of two symbols at each node, the second being ``labels``
    [batch, nodes]; only the logits are kept to go back."""
    return _looked_up(logits, labels, blank)[0]


def _looked_up(logits: Array, labels: Array, blank: int) -> tuple[tuple, tuple]:
    x = logits.astype(jnp.float32)
    top = jnp.max(x, axis=-1, keepdims=True)
    rest = jnp.log(jnp.sum(jnp.exp(x - top), axis=-1, keepdims=True))
    said = jnp.where(_are(labels, logits), x - top - rest, 0.0)
    blanks = x[..., blank] - top[..., 0] - rest[..., 0]
    return (blanks, jnp.sum(said, axis=-1)), (logits, labels, top, rest)


def _handed_back(blank: int, kept: tuple, grads: tuple[Array, Array]) -> tuple:
    # Of log p_j the gradient in logit k is [k = j] - p_k.
    logits, labels, top, rest = kept
    of_blank, of_label = (grad[..., None] for grad in grads)
    chances = jnp.exp(logits.astype(jnp.float32) - top - rest)
    grad = jnp.where(_are(jnp.full_like(labels, blank), logits), of_blank, 0.0)
    grad += jnp.where(_are(labels, logits), of_label, 0.0)
    return (grad - chances * (of_blank + of_label)).astype(logits.dtype), None


_entries.defvjp(_looked_up, _handed_back)


def _are(labels: Array, logits: Array) -> Array:
    """Where logits are those of the labels [batch, nodes]; with a select and a sum for
    a gather, no scatter is needed to go back."""
    return lax.broadcasted_iota(jnp.int32, logits.shape, 3) == labels[:, None, :, None]


def _only(scores: Array, where: Array) -> Array:
    """Scores where they count, float32 and not -inf; elsewhere never."""
    return jnp.where(where, jnp.maximum(scores.astype(jnp.float32), _NEVER), _NEVER)


def _tilted(scores: Array) -> Array:
    """[batch, frames, nodes] -> [diagonals, batch, nodes]: frame t of node u is at
    diagonal t + u; what has no frame is never."""
    batch, frames, nodes = scores.shape
    diagonals = frames + nodes - 1
    rows = jnp.swapaxes(scores, 1, 2)
    rows = jnp.pad(rows, ((0, 0), (0, 0), (0, nodes)), constant_values=_NEVER)
    # Rows of diagonals + 1 numbers that are read as rows of diagonals numbers: each is
    # moved on by one against the row before.
    flat = rows.reshape(batch, -1)[:, : nodes * diagonals]
    return jnp.transpose(flat.reshape(batch, nodes, diagonals), (2, 0, 1))


@jax.custom_vjp
def _cost(blank: Array, label: Array, steps: Array, labels: Array) -> Array:
    """-log P from scores [diagonals, batch, nodes], on which diagonal a row's ways end
    (0 for filling) and in which node."""
    return _forward(blank, label, steps, labels)[0]


def _forward(blank: Array, label: Array, steps: Array, labels: Array) -> tuple:
    # alpha of a diagonal is kept less its largest, and these are added up apart: so
    # what is compared stays small, and float32 exact, on a lattice of any size.
    def step(carry: tuple[Array, Array], here: tuple[Array, Array]) -> tuple:
        alpha, taken = carry
        b, e = here
        following = _logaddexp(alpha + b, _moved(alpha + e, 1))
        largest = _largest(following)
        return (following - largest[:, None], taken + largest), carry

    _, batch, nodes = blank.shape
    first = jnp.where(jnp.arange(nodes) == 0, 0.0, _NEVER).astype(jnp.float32)
    start = jnp.broadcast_to(first[None], (batch, nodes)), jnp.zeros(batch, jnp.float32)
    found: tuple[Array, Array] = lax.scan(step, start, (blank, label))[1]
    alphas, taken = found
    last, row = jnp.maximum(steps - 1, 0), jnp.arange(batch, dtype=jnp.int32)
    total = taken[last, row] + (alphas + blank)[last, row, labels]
    return jnp.where(steps > 0, -total, 0.0), (blank, label, steps, labels, alphas)


def _backward(kept: tuple, grad: Array) -> tuple[Array, Array, None, None]:
    # d log P / d b(t, u) = exp(alpha(t, u) + b(t, u) + beta(t + 1, u) - log P), and of
    # e with beta(t, u + 1). For log P stands the sum over the diagonal, of which alpha
    # and beta may both be known but for a constant: what the nodes of a diagonal get
    # adds up to 1 whatever has been rounded before.
    blank, label, steps, labels, alphas = kept
    ends = jnp.arange(blank.shape[2], dtype=jnp.int32)[None] == labels[:, None]
    ends = jnp.where(ends, 0.0, _NEVER).astype(jnp.float32)

    def step(beta: Array, here: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        n, b, e = here
        beta = jnp.where((n + 1 == steps)[:, None], ends, beta)
        before = _logaddexp(b + beta, e + _moved(beta, -1))
        return before - _largest(before)[:, None], beta

    n = jnp.arange(blank.shape[0], dtype=jnp.int32)
    start = jnp.full(blank.shape[1:], _NEVER, jnp.float32)
    over = (n, blank, label)
    betas: Array = lax.scan(step, start, over, reverse=True)[1]  # of the next diagonal
    ways = jnp.stack([blank + betas, label + _moved(betas, -1)]) + alphas[None]
    total = jax.nn.logsumexp(ways, axis=(0, 3))
    inside = (n[:, None] < steps[None]) & ~(total <= _NEVER / 2)
    of_blank, of_label = (
        jnp.where(inside[..., None], jnp.exp(way - total[..., None]), 0.0)
        for way in ways
    )
    factor = -grad[None, :, None]
    return factor * of_blank, factor * of_label, None, None


_cost.defvjp(_forward, _backward)


def _moved(scores: Array, by: int) -> Array:
    """Scores of one node at the next one, or at the one before."""
    none = [(0, 0)] * (scores.ndim - 1)
    if by > 0:
        return jnp.pad(scores[..., :-1], [*none, (1, 0)], constant_values=_NEVER)
    return jnp.pad(scores[..., 1:], [*none, (0, 1)], constant_values=_NEVER)


def _largest(scores: Array) -> Array:
    """The largest of each row, 0 where no node has a way."""
    found = jnp.max(scores, axis=1)
    return jnp.where(found <= _NEVER / 2, 0.0, found)


def _logaddexp(a: Array, b: Array) -> Array:  # of finite numbers
    return jnp.maximum(a, b) + jnp.log1p(jnp.exp(-jnp.abs(a - b)))
