"""A transducer: encoder, prediction network, joint network; and how it is decoded."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import linen

from fedjax_compress.models import lstm
from fedjax_compress.models.speech.decoding import beam_transducer, greedy_transducer
from fedjax_compress.models.speech.encoder import Encoder, Shape
from fedjax_compress.models.speech.transducer_loss import (
    scored_nodes,
    transducer_loss,
)
from fedjax_compress.typing import Array, Columns, Outputs, Params

Prediction = Literal["lstm", "embedding"]
BLANK = 0


class Network(NamedTuple):
    """Of a transducer.

    Attributes:
      encoder: its shape.
      prediction: ``lstm``, or ``embedding`` of the last symbol alone.
      embedding: width of a symbol.
      hidden: of the LSTM.
      joint: width in which both meet.
      symbols: with the blank, 0.
      block: frames of the joint that are computed at once; 0 for all.
    """

    encoder: Shape
    prediction: Prediction
    embedding: int
    hidden: int
    joint: int
    symbols: int
    block: int


class Transduced(NamedTuple):
    """What a transducer makes of rows.

    Attributes:
      encoded: float32 [batch, frames, joint], the encoder's half of the joint.
      lengths: int32 [batch], frames of these.
      blank: float32 [batch, frames, longest + 1], log-probability of the blank at each
        node.
      label: float32 [batch, frames, longest], of the next label.
      decoder: the parameters that decoding reads, as the network computed with them.
    """

    encoded: Array
    lengths: Array
    blank: Array
    label: Array
    decoder: Params


class Transducer(linen.Module):
    """Log-probabilities of blank and label at the nodes of each row's lattice.

    Parameters ``encoder``, ``prediction`` (``embedding`` [symbols, embedding] and
    ``lstm``), ``joint_encoder`` (``kernel`` [width, joint], ``bias``),
    ``joint_prediction`` (``kernel``), ``output`` (``kernel`` [joint, symbols],
    ``bias``).
    """

    network: Network

    @linen.compact
    def __call__(
        self, x: Array, lengths: Array, labels: Array, train: bool = False
    ) -> tuple[Array, ...]:
        """(encoded, lengths, blank, label) of ``Transduced``."""
        network = self.network
        x, lengths = Encoder(network.encoder, name="encoder")(x, lengths, train)
        encoded = linen.Dense(network.joint, name="joint_encoder")(x)
        begun = jnp.pad(labels, ((0, 0), (1, 0)), constant_values=BLANK)
        found = _Prediction(network, name="prediction")(begun)
        join = linen.Dense(network.joint, use_bias=False, name="joint_prediction")
        predicted = join(found)
        output = _Output(network.joint, network.symbols, name="output")()

        def joint(encoded: Array) -> Array:
            both = encoded[:, :, None] + predicted[:, None]
            return _scores(both, *output)

        blank, label = scored_nodes(joint, encoded, labels, BLANK, network.block)
        return encoded, lengths, blank, label


class _Prediction(linen.Module):
    network: Network

    @linen.compact
    def __call__(self, symbols: Array) -> Array:
        """[batch, time] -> [batch, time, width], each after the symbols up to it."""
        network = self.network
        x = linen.Embed(network.symbols, network.embedding, name="embedding")(symbols)
        return lstm.LSTM(network.hidden, name="lstm")(x) if has_lstm(network) else x


class _Output(linen.Module):
    joint: int
    symbols: int

    @linen.compact
    def __call__(self) -> tuple[Array, Array]:
        start = linen.initializers.lecun_normal()
        kernel = self.param("kernel", start, (self.joint, self.symbols))
        return kernel, self.param("bias", linen.initializers.zeros, (self.symbols,))


def has_lstm(network: Network) -> bool:
    """Whether the prediction network remembers more than the last symbol."""
    return network.prediction == "lstm"


def _scores(both: Array, kernel: Array, bias: Array) -> Array:
    """Logits of what both halves of the joint add up to, [..., joint]."""
    logits = jnp.tanh(both) @ kernel
    return logits + bias.reshape((1,) * (logits.ndim - 1) + (-1,))


class _State(NamedTuple):
    """Of the prediction network, after the symbols said so far: [batch, ...]."""

    predicted: Array
    h: Array
    c: Array


def decoded(
    network: Network, outputs: Transduced, most_per_frame: int, beam: int = 0
) -> tuple[Array, Array]:
    """Symbols that are said of each row, and how many they are.

    Args:
      network: whose outputs they are.
      outputs: of a batch.
      most_per_frame: symbols that one frame can say at most.
      beam: sequences kept by a beam search; 0 decodes greedily.

    Returns:
      int32 [batch, frames * most_per_frame], int32 [batch].
    """
    params: Any = outputs.decoder
    table = params["prediction"]["embedding"]["embedding"]
    output = params["output"]["kernel"], params["output"]["bias"]

    def advance(state: _State, symbol: Array) -> _State:
        x, h, c = jnp.take(table, symbol, axis=0), state.h, state.c
        if has_lstm(network):
            h, c = lstm.step(params["prediction"]["lstm"], x, h, c)
            x = h
        return _State(x @ params["joint_prediction"]["kernel"], h, c)

    def step(state: _State, frame: Array) -> Array:
        return _scores(frame + state.predicted, *output)

    batch = len(outputs.encoded)
    still = jnp.zeros((batch, network.hidden), outputs.encoded.dtype)
    nothing = _State(jnp.zeros_like(outputs.encoded[:, 0]), still, still)
    start = advance(nothing, jnp.full((batch,), BLANK, jnp.int32))
    heard = outputs.encoded, outputs.lengths
    if beam:
        return beam_transducer(*heard, start, step, advance, beam, most_per_frame)[:2]
    return greedy_transducer(*heard, start, step, advance, most_per_frame)


def loss(outputs: Outputs, columns: Columns) -> Array:
    """-log P(labels) of each row, in nats, float32 [batch]."""
    number = columns["label_lengths"].astype(jnp.int32)
    return transducer_loss(outputs.blank, outputs.label, outputs.lengths, number)
