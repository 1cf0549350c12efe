"""A conformer whose frames each say a symbol or none."""

from __future__ import annotations

from flax import linen

from fedjax_compress import registry
from fedjax_compress.models import cutting
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.models.losses import of_frames
from fedjax_compress.models.speech.conformer import Norm
from fedjax_compress.models.speech.decoding import greedy_ctc
from fedjax_compress.models.speech.encoder import (
    Encoder,
    Shape,
    check_room,
    check_sounds,
    encoder_groups,
    encoder_shape,
    encoder_ties,
    narrowed,
    read_sounds,
)
from fedjax_compress.models.speech.subsampling import Subsampling
from fedjax_compress.models.speech.word_errors import error_rates
from fedjax_compress.typing import Array, Columns, Cuts, Model, Outputs, Task


class _Classifier(linen.Module):
    shape: Shape
    symbols: int

    @linen.compact
    def __call__(
        self, x: Array, lengths: Array, train: bool = False
    ) -> tuple[Array, Array]:
        """Logits of each frame, and how many frames are real."""
        x, lengths = Encoder(self.shape, name="encoder")(x, lengths, train)
        return linen.Dense(self.symbols, name="output")(x), lengths


@registry.register("model", context=1)
def conformer_ctc(
    task: Task,
    width: int = 64,
    blocks: int = 3,
    heads: int = 4,
    kernel: int = 15,
    feed_forward: int = 4,
    subsampling: Subsampling = "stack",
    stack: int = 4,
    norm: Norm = "group",
    groups: int = 4,
    dropout: float = 0.0,
) -> Model:
    """Conformer with connectionist temporal classification: cheaper than a transducer.

    The encoder of ``conformer_transducer`` and a dense layer; frame t says symbol k
    with probability softmax(enc_t W + c)_k, independent of what other frames say, and
    class 0, the blank, is nothing. Loss: -log of the sum over all ways in which frames,
    repeats merged and blanks left out, say the transcript. A row whose subsampled
    frames are too few to say it counts for nothing in the loss. Figures: ``wer`` of
    the best path.

    Args:
      task, width, blocks, heads, kernel, feed_forward, subsampling, stack, norm,
        groups, dropout: as in ``conformer_transducer``.

    Raises:
      InputError: as ``conformer_transducer``.

    Reference: Graves et al. 2006; optax computes the loss.
    """
    check_sounds(task)
    shape = encoder_shape(
        width, blocks, heads, kernel, groups, feed_forward, subsampling, stack, norm,
        dropout,
    )  # fmt: skip
    check_room(task, shape, 1)
    return _made(task, shape)


def _made(task: Task, shape: Shape) -> Model:
    def narrow(counts: dict[str, int]) -> Model:
        return _made(task, narrowed(shape, counts))

    cuts: Cuts = cutting.layers(
        encoder_groups(shape),
        {"output": (None, None)},
        narrow,
        more=encoder_ties(shape),
    )
    return from_linen(
        _Classifier(shape, task.classes),
        task,
        inputs=lambda columns: read_sounds(columns, task),
        loss=_loss,
        metrics=error_rates(task, lambda params, columns, found: greedy_ctc(*found)),
        conv="direct",
        cuts=cuts,
    )


def _loss(outputs: Outputs, columns: Columns) -> tuple[Array, Array]:
    return of_frames(outputs[0], outputs[1], columns)
