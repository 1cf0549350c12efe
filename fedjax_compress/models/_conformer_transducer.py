"""The Conformer-Transducer of speech recognition."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.models import cutting
from fedjax_compress.models.inputs import check_positive
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.models.speech import transducer
from fedjax_compress.models.speech.conformer import Norm
from fedjax_compress.models.speech.encoder import (
    check_room,
    check_sounds,
    encoder_groups,
    encoder_shape,
    encoder_ties,
    narrowed,
    read_sounds,
)
from fedjax_compress.models.speech.subsampling import Subsampling
from fedjax_compress.models.speech.transducer import (
    Network,
    Prediction,
    Transduced,
    Transducer,
    has_lstm,
)
from fedjax_compress.models.speech.word_errors import error_rates
from fedjax_compress.typing import Array, Columns, Cuts, Key, Model, Params, Task, Tie


@registry.register("model", context=1)
def conformer_transducer(
    task: Task,
    width: int = 64,
    blocks: int = 3,
    heads: int = 4,
    kernel: int = 15,
    joint: int = 64,
    prediction: Prediction = "lstm",
    embedding: int = 64,
    hidden: int = 64,
    feed_forward: int = 4,
    subsampling: Subsampling = "stack",
    stack: int = 4,
    norm: Norm = "group",
    groups: int = 4,
    dropout: float = 0.0,
    most_per_frame: int = 3,
    beam: int = 0,
    joint_block: int = 0,
) -> Model:
    """Conformer-Transducer: speech to words, with word error rate.

    Features [frames, bins] go through a subsampling to fewer frames (a quarter, by
    default) and ``blocks`` conformer blocks of width d,

      x <- x + FF(x) / 2;  x <- x + MHSA(x);  x <- x + Conv(x);  x <- x + FF(x) / 2;
      y = LayerNorm(x),

    each part after a layer norm of its own: FF d -> 4 d, swish, -> d; MHSA with
    relative positions as in Transformer-XL; Conv d -> 2 d, gated linear unit, depthwise
    over ``kernel`` frames, norm, swish, -> d. Symbols said so far go through an
    embedding and an LSTM (``prediction``). Frame t and u symbols meet in the joint
    network,

      P(. | t, u) = softmax(tanh(E enc_t + b + P pred_u) W + c),

    over the blank, 0, and all symbols. Loss: -log P of the transcript, the sum over all
    alignments (RNN-T), of a row, in nats. Figures: ``wer`` of the words decoded.
    Padding by ``lengths`` and ``label_lengths`` changes nothing.

    With feed_forward 4 a block has 24 d^2 + (kernel + 32) d parameters, the LSTM
    4 h (i + h + 1). The default, with 40 bins and ten words, has 356,939.

    Cuts: hidden units of both FF, heads, groups of channels of Conv (where ``norm`` is
    group), the embedding, the LSTM, the joint. The width d is not cut: layer norms mix
    it.

    Args:
      task: frames and a sequence of symbols, as ``audio`` gives; ``label_lengths`` and,
        if rows are padded, ``lengths``.
      width: d, of the blocks.
      blocks: how many.
      heads: of the attention; divides the width.
      kernel: frames that the depthwise convolution sees.
      joint: width of the joint network.
      prediction: lstm, or embedding: of the last symbol alone (hidden is then unused).
      embedding: width of a symbol.
      hidden: of the LSTM.
      feed_forward: hidden units of FF, as multiple of the width.
      subsampling: stack: ``stack`` frames side by side, a dense layer; convolution: two
        of 3 x 3 and stride 2, a dense layer.
      stack: frames side by side.
      norm: of Conv: group, over real frames and the channels of one of ``groups``;
        layer, over the channels of a frame.
      groups: of channels; divides the width.
      dropout: share dropped in training, after the subsampling, within FF and of what
        each part adds.
      most_per_frame: symbols that decoding lets one (subsampled) frame say.
      beam: sequences that a beam search keeps when the model is evaluated, which takes
        about as many times longer; 0 decodes greedily.
      joint_block: frames of the joint whose logits are there at once, which are
        computed again for the gradient; 0 for all of them, which is faster where
        batch x frames x symbols said x symbols is small.

    Raises:
      InputError: another task, a size below 1, heads or groups that do not divide the
        width, dropout out of its range, too few frames to say the longest transcript.

    Reference: Gulati et al. 2020 (Conformer); Graves 2012 (transducer, eq. 16 to 20);
      Dai et al. 2019, section 3.3 (relative positions); Lin et al. 2022 (Federated
      Pruning), which prunes one of 17 blocks of 512: 107,511,808 parameters with kernel
      32.

    Deviations: no batch normalisation, whose statistics belong to no client.
    """
    check_sounds(task)
    check_positive("joint", joint)
    check_positive("embedding", embedding)
    check_positive("hidden", hidden)
    check_positive("most_per_frame", most_per_frame)
    for name, number in (("joint_block", joint_block), ("beam", beam)):
        if number:
            check_positive(name, number)
    shape = encoder_shape(
        width, blocks, heads, kernel, groups, feed_forward, subsampling, stack, norm,
        dropout,
    )  # fmt: skip
    check_room(task, shape, most_per_frame)
    network = Network(
        shape, prediction, embedding, hidden, joint, task.classes, joint_block
    )
    return _made(task, network, _Decoding(most_per_frame, beam))


class _Decoding(NamedTuple):
    most_per_frame: int
    beam: int


def _made(task: Task, network: Network, decoding: _Decoding) -> Model:
    def read(columns: Columns) -> tuple[Array, Array, Array]:
        x, lengths = read_sounds(columns, task)
        if "labels" in columns:
            return x, lengths, columns["labels"]
        return x, lengths, jnp.zeros((len(x), 1), jnp.int32)  # to decode alone

    def say(
        params: Params, columns: Columns, outputs: Transduced
    ) -> tuple[Array, Array]:
        return transducer.decoded(network, outputs, *decoding)

    made = from_linen(
        Transducer(network),
        task,
        inputs=read,
        loss=transducer.loss,
        metrics=error_rates(task, say),
        conv="direct",
        cuts=_cuts(task, network, decoding),
    )

    def apply(params: Params, columns: Columns, key: Key | None) -> Transduced:
        found = made.apply(params, columns, key)
        decoder = {name: part for name, part in params.items() if name != "encoder"}
        encoded, lengths, blank, label = found
        return Transduced(encoded, lengths, blank, label, decoder)

    return made._replace(apply=apply)


def _cuts(task: Task, network: Network, decoding: _Decoding) -> Cuts:
    joint, embedding = Tie("joint"), Tie("embedding")
    groups = {**encoder_groups(network.encoder), "embedding": network.embedding}
    said, more = embedding, encoder_ties(network.encoder)
    more["prediction/embedding/embedding"] = (None, embedding)
    if has_lstm(network):
        groups["lstm"], said = network.hidden, Tie("lstm")
        gates = Tie("lstm", outer=4)
        more |= {
            "prediction/lstm/kernel": (embedding, gates),
            "prediction/lstm/recurrent": (said, gates),
            "prediction/lstm/bias": (gates,),
        }
    groups["joint"] = network.joint
    more["joint_prediction/kernel"] = (said, joint)

    def narrow(counts: dict[str, int]) -> Model:
        fewer = network._replace(
            encoder=narrowed(network.encoder, counts),
            embedding=counts["embedding"],
            hidden=counts.get("lstm", network.hidden),
            joint=counts["joint"],
        )
        return _made(task, fewer, decoding)

    ends: dict[str, cutting.Ends] = {
        "joint_encoder": (None, joint),
        "output": (joint, None),
    }
    return cutting.layers(groups, ends, narrow, more=more)
