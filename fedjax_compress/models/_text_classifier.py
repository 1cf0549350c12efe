"""Classification of texts."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models import transformer
from fedjax_compress.models.inputs import (
    check_positive,
    check_tokens,
    lengths_of,
    tokens,
    within,
)
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.typing import Array, Columns, Model, Task


class _TextClassifier(linen.Module):
    shape: transformer.Shape
    classes: int

    @linen.compact
    def __call__(self, x: Array, real: Array, train: bool) -> Array:
        x = jnp.minimum(x, self.shape.symbols - 1)
        if self.shape.heads:
            x = transformer.transformed(x, real[:, None], self.shape, train)
        else:
            x = transformer.embedded(x, self.shape)
            x = linen.Dropout(self.shape.dropout, deterministic=not train)(x)
        counts = real.astype(x.dtype)
        number = jnp.maximum(jnp.sum(counts, axis=1), 1)
        x = jnp.sum(x * counts[:, :, None], axis=1) / number[:, None]
        return linen.Dense(self.classes, name="output")(x)


@registry.register("model", context=1)
def text_classifier(
    task: Task,
    symbols: int,
    width: int = 64,
    layers: int = 1,
    heads: int = 4,
    feed_forward: int = 4,
    dropout: float = 0.0,
    pad: int = 0,
) -> Model:
    """Classes of a text: an embedding, transformer blocks, the mean, a dense layer.

    Every real token sees every other one; what is not real is neither seen nor part of
    the mean, so that padding changes nothing. Real are the first ``lengths`` tokens of
    a row, where there is such a column, else those that are not ``pad``. The outputs of
    a row without any are the output's bias. With ``layers=0`` it is a bag of embeddings
    as in fastText: their mean, without positions or normalisation, and a dense layer.

    For V symbols, width d, L >= 1 layers, hidden layers of f d units and C classes

      V d + L ((4 + 2 f) d^2 + (5 + f) d) + 2 d + d C + C

    parameters, without blocks V d + d C + C; their names and first values are those of
    ``transformer_lm``.

    Its cuts are the heads and the hidden units of each block, and not the width, which
    a normalisation mixes; without blocks, the width of the embedding.

    Args:
      task: tokens of shape (time,) whose target is class or several.
      symbols: size of the vocabulary: tokens 0 .. symbols-2 are themselves, all above
        are read as symbols-1, the unknown.
      width: numbers at each position, between blocks.
      layers: number of blocks; 0 for a bag of embeddings.
      heads: of each block; must divide ``width``, where there are blocks.
      feed_forward: hidden units of each block, in widths.
      dropout: share of numbers dropped while training: of the embedding with its
        positions, and of what attention and dense layers add.
      pad: the symbol that is no token, where no ``lengths`` say so; -1 for none.

    Raises:
      InputError: a task without tokens or of another target, fewer than 2 symbols, a
        size below 1, heads that do not divide the width, dropout outside [0, 1), or a
        pad that is no symbol.

    Reference: Vaswani et al., "Attention Is All You Need" (2017), section 3; Joulin et
      al., "Bag of Tricks for Efficient Text Classification" (2017), for ``layers=0``.

    Deviations: from the latter, no features of neighbouring words.
    """
    check_positive("the number of classes", task.classes)
    check_tokens(task)
    if task.predicts not in ("class", "several"):
        raise InputError(
            f"predicts classes of a whole text, but the target is {task.predicts}; "
            "say target=class or target=several, or try transformer_lm"
        )
    if symbols < 2:
        raise InputError(f"symbols must be at least 2, not {symbols}")
    if not -1 <= pad < symbols:
        raise InputError(f"pad must be in -1 .. {symbols - 1}, not {pad}")
    shape = transformer.shape_of(symbols, width, layers, heads, feed_forward, dropout)
    return _text_classifier(task, shape, pad)


def _text_classifier(task: Task, shape: transformer.Shape, pad: int) -> Model:
    def read(columns: Columns) -> tuple[Array, Array]:
        return tokens(columns["features"]), _real(columns, pad)

    def make(shape: transformer.Shape) -> Model:
        return _text_classifier(task, shape, pad)

    return from_linen(
        _TextClassifier(shape, task.classes),
        task,
        inputs=read,
        conv="direct",
        cuts=transformer.cuts_of(shape, make),
    )


def _real(columns: Columns, pad: int) -> Array:
    """Which tokens are real, bool [batch, time]."""
    x = tokens(columns["features"])
    if "lengths" not in columns:
        return x != pad
    return within(lengths_of(columns, x.shape[1]), x.shape[1])
