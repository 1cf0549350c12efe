"""A language model of causal attention."""

from __future__ import annotations

from flax import linen

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models import transformer
from fedjax_compress.models.inputs import check_positive, check_tokens
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.typing import Array, Model, Task


class _TransformerLM(linen.Module):
    shape: transformer.Shape
    classes: int

    @linen.compact
    def __call__(self, x: Array, train: bool) -> Array:
        seen = transformer.causal(x.shape[1])
        x = transformer.transformed(x, seen, self.shape, train)
        return linen.Dense(self.classes, name="output")(x)


@registry.register("model", context=1)
def transformer_lm(
    task: Task,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    feed_forward: int = 4,
    dropout: float = 0.0,
    pad: int = 0,
) -> Model:
    """Next-token model: an embedding, causal transformer blocks, a dense layer.

    Features and labels are [batch, time]: the label of a position is the symbol that
    follows, and its outputs read that position and those before. Loss and accuracy as
    for ``char_lstm``. For V symbols, width d, L layers and hidden layers of f d units

      2 V d + V + L ((4 + 2 f) d^2 + (5 + f) d) + 2 d

    parameters, 418,906 with 90 symbols: ``embedding/embedding`` [V, d] (normal of
    variance 1 / d, times sqrt(d) where it is read, plus sines and cosines of the
    position), ``block_1``, ``block_2``, ... (see ``transformer.Block``), ``norm``
    (``scale``, ``bias``) and ``output`` (``kernel``, ``bias``). Kernels are drawn from
    a truncated normal of variance 1 / inputs, biases are zeros, scales ones.

    Its cuts are the heads and the hidden units of each block. The width is not cut: a
    normalisation mixes it, so the network cut to a part of it is not the whole one with
    the rest zeroed.

    Args:
      task: tokens of shape (time,); ``classes`` is the number of symbols.
      width: numbers at each position, between blocks.
      layers: number of blocks.
      heads: of each block; must divide ``width``.
      feed_forward: hidden units of each block, in widths.
      dropout: share of numbers dropped while training: of the embedding with its
        positions, and of what attention and dense layers add.
      pad: the symbol that is not scored; -1 scores all.

    Raises:
      InputError: a task without tokens or whose target is not one for each position, a
        size below 1, heads that do not divide the width, dropout outside [0, 1), or a
        pad that is no symbol.

    Reference: Vaswani et al., "Attention Is All You Need" (2017), sections 3.2 to 3.5;
      Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), for
      normalisation before each layer and after the last block.

    Deviations: from the former, gelu in place of ReLU and an output with weights of its
      own; from the latter, sines and cosines in place of positions that are learned,
      no bias in attention, and no dropout of its weights.
    """
    check_tokens(task)
    if task.predicts != "positions":
        raise InputError(
            f"predicts what follows each token, but the target is {task.predicts}; "
            "try text_classifier"
        )
    check_positive("layers", layers)
    if not -1 <= pad < task.classes:
        raise InputError(f"pad must be in -1 .. {task.classes - 1}, not {pad}")
    shape = transformer.shape_of(
        task.classes, width, layers, heads, feed_forward, dropout
    )
    return _transformer_lm(task, shape, pad)


def _transformer_lm(task: Task, shape: transformer.Shape, pad: int) -> Model:
    def make(shape: transformer.Shape) -> Model:
        return _transformer_lm(task, shape, pad)

    return from_linen(
        _TransformerLM(shape, task.classes),
        task,
        pad=pad,
        conv="direct",
        cuts=transformer.cuts_of(shape, make),
    )
