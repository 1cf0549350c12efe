"""Networks of one's own on sequences that are not aligned: CTC, and what is said."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
from flax import linen
from sounds import SOUNDS, heard, sounds

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models import from_linen, losses, transcribe
from fedjax_compress.typing import Task


class Frames(linen.Module):
    """Scores of every second frame, or of all."""

    symbols: int
    stride: int = 1

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.symbols)(x[:, :: self.stride])


def collapsed(path):
    """What a way through the frames says: repeats as one, blanks left out."""
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)


def by_enumeration(logits, labels):
    """-log of the sum over all ways, in float64."""
    frames, symbols = logits.shape
    logs = logits.astype(np.float64)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    ways = itertools.product(range(symbols), repeat=frames)
    chances = [
        np.exp(logs[np.arange(frames), way].sum())
        for way in ways
        if collapsed(way) == tuple(labels)
    ]
    return -np.log(np.sum(chances))


def test_ctc_is_the_sum_over_all_ways():
    """Rows of 4, 3 and 1 frames of four; two labels, one, none."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 3)).astype(np.float32)
    labels = np.array([[2, 1], [1, 0], [0, 0]], np.int32)
    lengths, number = np.array([4, 3, 1], np.int32), np.array([2, 1, 0], np.int32)
    found = losses.connectionist(logits, labels, lengths, number)
    wanted = [
        by_enumeration(logits[i, :n], labels[i, :k])
        for i, (n, k) in enumerate(zip(lengths, number, strict=True))
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_a_network_of_fewer_frames_keeps_the_lengths(stride):
    """It makes ceil(n / stride) of n frames; padding changes nothing."""
    columns = heard(rows=4)
    model, wider = (
        from_linen(Frames(4, stride), sounds(frames=frames)) for frames in (12, 15)
    )
    params = model.init(jax.random.key(0))
    outputs = model.apply(params, columns, None)

    def scores(net, given):
        def both(columns):
            outputs = net.apply(params, columns, None)
            count = net.metrics["wer"].count(params, columns, outputs)
            return net.losses(outputs, columns), count

        return jax.jit(both)(given)

    found = losses.frames_of(outputs, columns)
    np.testing.assert_array_equal(found, -(-columns["lengths"] // stride))
    features = np.pad(columns["features"], ((0, 0), (0, 3), (0, 0)))
    features[np.arange(15)[None] >= columns["lengths"][:, None]] = 7.0
    padded = {**columns, "features": features}
    (value, weight), count = scores(model, columns)
    (other, _), again = scores(wider, padded)
    np.testing.assert_allclose(value, other, rtol=1e-5)
    np.testing.assert_array_equal(weight, np.ones(4))
    np.testing.assert_array_equal(count, again)
    del columns["lengths"]
    every = losses.frames_of(outputs, columns)
    np.testing.assert_array_equal(every, np.full(4, -(-12 // stride)))


def test_rows_that_their_frames_cannot_say_count_for_nothing():
    """Three frames say two symbols, but two equal ones need a blank between."""
    logits = np.random.default_rng(0).normal(size=(4, 3, 3)).astype(np.float32)
    columns = {
        "labels": np.array([[1, 2, 0], [1, 1, 0], [1, 1, 2], [2, 2, 2]], np.int32),
        "label_lengths": np.array([2, 2, 3, 0], np.int32),
        "weights": np.array([1, 2, 3, 4], np.float32),
    }
    lengths = np.array([2, 3, 3, 1], np.int32)

    def total(logits):
        value, weight = losses.of_frames(logits, lengths, columns)
        return (value * weight).sum(), (value, weight)

    grad, (value, weight) = jax.grad(total, has_aux=True)(logits)
    np.testing.assert_array_equal(weight, [1, 2, 0, 4])
    assert value[2] == 0
    assert not grad[2].any()
    assert all(np.abs(grad[i]).max() > 0.01 for i in (0, 1, 3))
    wanted = by_enumeration(logits[1], [1, 1])
    np.testing.assert_allclose(value[1], wanted, rtol=1e-5)


def test_outputs_that_are_no_scores_of_frames_are_refused():
    class Flat(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(4)(x.reshape(len(x), -1))

    with pytest.raises(InputError, match="must have shape"):
        from_linen(Flat(), SOUNDS)


def says(symbols):
    """A model whose frames score the symbol that their features mark, and its task."""
    task = Task(
        (4, 3), 3, target="sequence", longest=2, symbols=symbols,
        more=(("label_lengths", (), "int32"), ("lengths", (), "int32")),
    )  # fmt: skip
    return from_linen(linen.Dense(3, use_bias=False), task), task


@pytest.mark.parametrize(
    ("symbols", "wanted", "figures"),
    [
        (("", "yes", "no"), ["yes no", ""], ["wer"]),
        (("", "a", " "), ["a ", ""], ["wer", "cer"]),
    ],
)
def test_transcripts_in_words_and_in_letters(symbols, wanted, figures):
    model, task = says(symbols)
    assert list(model.metrics) == figures
    params = {"kernel": np.eye(3, dtype=np.float32)}
    marks = np.array([[1, 1, 0, 2], [0, 0, 2, 2]])
    columns = {
        "features": np.eye(3, dtype=np.float32)[marks],
        "lengths": np.array([4, 2], np.int32),
        "labels": np.array([[1, 2], [1, 0]], np.int32),
        "label_lengths": np.array([2, 1], np.int32),
    }
    assert transcribe(model, params, columns, task.symbols) == wanted
    errors, words = model.metrics["wer"].count(
        params, columns, model.apply(params, columns, None)
    )
    np.testing.assert_array_equal(errors, [0, 1])
    np.testing.assert_array_equal(words, [2 if " " not in symbols else 1, 1])


def test_recordings_are_transcribed_without_their_transcripts():
    text = "(width=4, blocks=1, heads=2, kernel=3, groups=2, stack=2"
    for name in ("conformer_transducer", "conformer_ctc"):
        model = registry.build("model", f"{name}{text})", SOUNDS)
        columns = heard()
        params = model.init(jax.random.key(0))
        said = transcribe(model, params, columns, SOUNDS.symbols)
        del columns["labels"], columns["label_lengths"]
        assert transcribe(model, params, columns, SOUNDS.symbols) == said
    with pytest.raises(InputError, match="have no names"):
        transcribe(model, params, columns, ())


def test_only_what_speaks_transcribes():
    model = registry.build("model", "logistic", Task((3,), 2))
    with pytest.raises(InputError, match="this one has accuracy"):
        transcribe(model, {}, {}, ())
