"""How many words are wrong: the edit distance to what was said, over all rows."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedjax_compress.errors import InputError
from fedjax_compress.models.speech.decoding import to_front
from fedjax_compress.models.sums import ratio, weighed
from fedjax_compress.numerics.randomness import mix
from fedjax_compress.typing import (
    Array,
    Columns,
    Metric,
    Model,
    Outputs,
    Params,
    Task,
    Tree,
)

Decode = Callable[[Params, Columns, Outputs], tuple[Array, Array]]
"""(params, columns, outputs) -> (symbols int32 [batch, n], their number [batch])."""


_DECODE = "_decode"
"""On the count of a word error rate: what it counts the errors of."""


def wer(decode: Decode, boundary: int | None = None) -> Metric:
    """Word error rate: edits from what was said to what is decoded, per word that was
    said, both added up over rows; it may exceed 1.

    Reads ``labels`` and ``label_lengths``, and ``weights`` where there are some.

    Args:
      decode: what the outputs say.
      boundary: the symbol between words, where symbols are letters; None where each
        symbol is a word.
    """

    def count(params: Params, columns: Columns, outputs: Outputs) -> Tree:
        said = decode(params, columns, outputs)
        true = columns["labels"], columns["label_lengths"]
        if boundary is not None:
            said, true = (words_of(x[0], x[1], boundary) for x in (said, true))
        errors = edit_distance(*said, *true).astype(jnp.float32)
        return weighed(errors, columns, true[1].astype(jnp.float32))

    setattr(count, _DECODE, decode)
    return Metric(count, ratio, "lower", "%")


def transcribe(
    model: Model, params: Params, columns: Columns, symbols: tuple[str, ...]
) -> list[str]:
    """What a model says of each row, in words; each call compiles, so give all rows.

    Args:
      model: one whose first figure is ``wer``.
      params: of the model, as ``experiment.trained`` gives.
      columns: [rows, ...] each; ``labels`` are not needed.
      symbols: what each class of the task is called; letters where one of them is a
        space, else words, between which spaces are put.

    Raises:
      InputError: a model that is not scored by ``wer``, or a class without a name.
    """
    name, metric = next(iter(model.metrics.items()))
    decode = getattr(metric.count, _DECODE, None)
    if decode is None:
        raise InputError(f"only models with wer can transcribe; this one has {name}")
    if not symbols:
        raise InputError("the symbols have no names; give them, the blank's first")
    say = jax.jit(lambda p, c: decode(p, c, model.apply(p, c, None)))
    found, number = jax.device_get(say(params, columns))
    if found.max(initial=0) >= len(symbols):
        raise InputError(
            f"class {found.max()} is said, and there are names of {len(symbols)} only"
        )
    between = "" if " " in symbols else " "
    return [
        between.join(symbols[i] for i in row[:n])
        for row, n in zip(found, number, strict=True)
    ]


def cer(decode: Decode) -> Metric:
    """Symbol error rate: as ``wer``, with each symbol for itself."""
    return wer(decode)


def error_rates(task: Task, decode: Decode) -> dict[str, Metric]:
    """``wer``, and ``cer`` where symbols are letters: one of them is a space."""
    if " " not in task.symbols:
        return {"wer": wer(decode)}
    return {"wer": wer(decode, task.symbols.index(" ")), "cer": cer(decode)}


def edit_distance(
    hypothesis: Array, hypothesis_lengths: Array, reference: Array, lengths: Array
) -> Array:
    """The fewest insertions, deletions and substitutions that make one of the other.

    D(i, j) of the first i and j symbols is the least of D(i - 1, j) + 1,
    D(i - 1, j - 1) + [they differ] and D(i, j - 1) + 1. With x(j) the least of the
    first two, D(i, j) = j + min over k <= j of x(k) - k.

    Args:
      hypothesis: integer [batch, n].
      hypothesis_lengths: integer [batch], symbols of each row.
      reference: integer [batch, m].
      lengths: integer [batch], symbols of each row.

    Returns:
      int32 [batch].
    """
    said, true = hypothesis.astype(jnp.int32), reference.astype(jnp.int32)
    number = hypothesis_lengths.astype(jnp.int32)
    batch, m = true.shape
    j = jnp.broadcast_to(jnp.arange(m + 1, dtype=jnp.int32)[None], (batch, m + 1))

    def step(row: Array, reached: tuple[Array, Array]) -> tuple[Array, None]:
        i, symbol = reached
        differs = (symbol[:, None] != true).astype(jnp.int32)
        least = jnp.minimum(row[:, 1:] + 1, row[:, :-1] + differs)
        least = jnp.concatenate([row[:, :1] + 1, least], axis=1)
        found = j + lax.cummin(least - j, axis=1)
        return jnp.where((i < number)[:, None], found, row), None

    i = jnp.arange(said.shape[1], dtype=jnp.int32)
    row: Array = lax.scan(step, j, (i, said.T))[0]
    end = lengths.astype(jnp.int32)[:, None]
    return jnp.take_along_axis(row, end, axis=1)[:, 0]


def words_of(symbols: Array, lengths: Array, boundary: int) -> tuple[Array, Array]:
    """Words as numbers: equal for equal runs of symbols between boundaries.

    A word's number is a hash of 32 bits. Words of one length that differ in one symbol
    never have the same; two others have with odds of 2^-32, so among 1 000 pairs of
    rows of 30 words each, which are a million pairs of words, one is taken for another
    with odds of one in 5 000.

    Args:
      symbols: integer [batch, n].
      lengths: integer [batch], symbols of each row.
      boundary: the symbol between words; several in a row are as one.

    Returns:
      int32 [batch, n], and int32 [batch] how many they are.
    """
    batch, n = symbols.shape
    place = jnp.arange(n, dtype=jnp.int32)[None]
    real = place < lengths.astype(jnp.int32)[:, None]
    letter = real & (symbols.astype(jnp.int32) != boundary)

    def step(found: Array, here: tuple[Array, Array]) -> tuple[Array, Array]:
        symbol, inside = here
        found = jnp.where(inside, mix(found ^ symbol), _START)
        return found, found

    start = jnp.full(batch, _START, jnp.uint32)
    over = symbols.astype(jnp.uint32).T, letter.T
    hashes: Array = lax.scan(step, start, over)[1]
    ends = letter & ~jnp.pad(letter[:, 1:], ((0, 0), (0, 1)))
    return to_front(lax.bitcast_convert_type(hashes.T, jnp.int32), ends)


_START = np.uint32(2166136261)
