"""What is decoded, where it is known, by a plain loop and among all sequences."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.models.speech.decoding import (
    beam_transducer,
    greedy_ctc,
    greedy_transducer,
)
from fedjax_compress.models.speech.transducer_loss import transducer_loss


def of_table(symbols: int) -> tuple:
    """A model whose frame holds, for each number of symbols said, logits: those of
    symbol k after u symbols are at u * symbols + k."""

    def step(state, frame):
        table = frame.reshape(frame.shape[0], -1, symbols)
        place = jnp.minimum(state, table.shape[1] - 1)
        return jnp.take_along_axis(table, place[:, None, None], axis=1)[:, 0]

    return step, lambda state, symbol: state + 1


def forced(choices: list[list[int]], symbols: int) -> np.ndarray:
    """[1, frames, width]: in frame t, after u symbols, the choice is choices[t][u]."""
    return 5 * np.eye(symbols, dtype=np.float32)[np.array(choices)].reshape(
        1, len(choices), -1
    )


def of_network(seed: int, symbols: int, width: int, scale: float = 2.0) -> tuple:
    """A model that depends on all that has been said, and in which order."""
    rng = np.random.default_rng(seed)
    w, u, v, e = (
        (scale * rng.normal(size=s) / np.sqrt(s[0])).astype(np.float32)
        for s in ((width, symbols), (6, symbols), (6, 6), (symbols, 6))
    )

    def step(state, frame):
        return frame @ w + state["h"] @ u

    def advance(state, symbol):
        return {"h": jnp.tanh(state["h"] @ v + jnp.asarray(e)[symbol])}

    return step, advance, lambda rows: {"h": jnp.full((rows, 6), 0.1)}


def plain(encoded, length, state, step, advance, most) -> list[int]:
    """One row, in plain Python."""
    said = []
    for t in range(length):
        for _ in range(most):
            best = int(np.argmax(step(state, encoded[None, t])[0]))
            if best == 0:
                break
            said.append(best)
            state = advance(state, jnp.array([best], jnp.int32))
    return said


def test_forced_choices_come_out():
    """A blank, then three symbols in a frame, then one, then none."""
    choices = [[0, 9, 9, 9, 9], [2, 1, 2, 0, 9], [9, 9, 9, 3, 0], [9, 9, 9, 9, 0]]
    encoded = forced(choices, 10)
    start = jnp.zeros(1, jnp.int32)
    symbols, number = greedy_transducer(
        encoded, jnp.array([4]), start, *of_table(10), most_per_frame=4
    )
    assert symbols.shape == (1, 16)
    assert symbols.dtype == number.dtype == jnp.int32
    assert number.tolist() == [4]
    assert symbols[0].tolist() == [2, 1, 2, 3] + [0] * 12
    # Of two a frame: 2 1 | 2 ends the next frame, by the blank; the last says 3.
    choices[2] = [9, 9, 2, 0, 9]
    choices[3] = [9, 9, 9, 3, 0]
    symbols, number = greedy_transducer(
        forced(choices, 10), jnp.array([4]), start, *of_table(10), most_per_frame=2
    )
    assert symbols[0, : number[0]].tolist() == [2, 1, 2, 3]


@pytest.mark.parametrize("most", [1, 3])
def test_a_frame_says_no_more_than_it_may(most):
    encoded = np.zeros((2, 5, 4), np.float32)
    encoded[..., 2] = 1.0
    symbols, number = greedy_transducer(
        encoded,
        jnp.array([5, 2]),
        jnp.zeros(2, jnp.int32),
        lambda state, frame: frame,
        lambda state, symbol: state,
        most_per_frame=most,
    )
    assert number.tolist() == [5 * most, 2 * most]
    assert symbols.tolist() == [[2] * 5 * most, [2] * 2 * most + [0] * 3 * most]


@pytest.mark.parametrize("most", [1, 3])
def test_greedy_is_a_plain_loop(most):
    lengths = [9, 0, 4, 1, 9]
    encoded = np.random.default_rng(0).normal(size=(5, 9, 8)).astype(np.float32)
    step, advance, start = of_network(1, 5, 8)
    symbols, number = greedy_transducer(
        encoded, jnp.array(lengths), start(5), step, advance, most
    )
    wanted = [
        plain(x, n, start(1), step, advance, most)
        for x, n in zip(encoded, lengths, strict=True)
    ]
    found = [s[:n] for s, n in zip(symbols.tolist(), number.tolist(), strict=True)]
    assert found == wanted
    assert len(set(map(len, wanted))) > 2
    rest = np.arange(symbols.shape[1])[None] >= np.asarray(number)[:, None]
    assert not np.asarray(symbols)[rest].any()


def test_greedy_over_clients_and_frames_that_are_not_there():
    encoded = np.random.default_rng(2).normal(size=(3, 4, 6, 8)).astype(np.float32)
    lengths = np.random.default_rng(3).integers(0, 7, (3, 4)).astype(np.int32)
    step, advance, start = of_network(4, 5, 8)

    def decode(x, n):
        return greedy_transducer(x, n, start(4), step, advance)

    each = [decode(x, n) for x, n in zip(encoded, lengths, strict=True)]
    found = jax.jit(jax.vmap(decode))(encoded, lengths)
    for a, b in zip(found, zip(*each, strict=True), strict=True):
        np.testing.assert_array_equal(a, b)
    longer = np.pad(encoded[0], ((0, 0), (0, 3), (0, 0)), constant_values=1e6)
    symbols, number = decode(longer, lengths[0])
    np.testing.assert_array_equal(number, each[0][1])
    np.testing.assert_array_equal(symbols[:, :18], each[0][0])


def test_as_many_steps_as_the_longest_row_has_frames_and_symbols():
    """A count of the steps that a row has seen, which is part of its state, would not
    show the others': so the loop is counted by a callback."""
    seen = []

    def step(state, frame):
        jax.debug.callback(lambda: seen.append(1))
        return jnp.where((state == 0)[:, None], frame, frame[:, ::-1])

    encoded = np.zeros((2, 6, 3), np.float32)
    encoded[0, :, 2] = 1.0  # each frame says one, and is then reversed: blank
    encoded[1, :, 0] = 1.0
    symbols, number = greedy_transducer(
        encoded,
        jnp.array([3, 6]),
        jnp.zeros(2, jnp.int32),
        step,
        lambda state, symbol: state + 1,
    )
    jax.effects_barrier()
    assert number.tolist() == [1, 0]
    assert symbols[0, 0] == 2
    assert len(seen) == max(3 + 1, 6)


def test_best_path_of_ctc_by_hand():
    """Repeats are one, but for a blank between them."""
    best = np.array(
        [[0, 1, 1, 0, 1, 2, 2], [3, 3, 3, 0, 0, 3, 1], [2, 0, 1, 1, 1, 1, 1]]
    )
    logits = np.eye(4, dtype=np.float32)[best]
    symbols, number = greedy_ctc(logits, jnp.array([7, 6, 0]))
    assert number.tolist() == [3, 2, 0]
    assert symbols.tolist() == [[1, 1, 2, 0, 0, 0, 0], [3, 3, 0, 0, 0, 0, 0], [0] * 7]
    symbols, number = greedy_ctc(logits, jnp.array([7, 7, 7]), blank=3)
    assert number.tolist() == [5, 2, 3]
    assert symbols[:, :5].tolist() == [
        [0, 1, 0, 1, 2],
        [0, 1, 0, 0, 0],
        [2, 0, 1, 0, 0],
    ]


def chances(encoded, length, step, advance, start, symbols, longest) -> dict:
    """log P of every sequence of up to so many symbols, by the loss."""
    frames = encoded.shape[0]
    found = {}
    for n in range(longest + 1):
        for said in itertools.product(range(1, symbols), repeat=n):
            state, blank, label = start(1), [], []
            for u in range(n + 1):
                logits = np.stack([step(state, x[None])[0] for x in encoded])
                scores = np.asarray(jax.nn.log_softmax(logits.astype(np.float32)))
                blank.append(scores[:, 0])
                if u < n:
                    label.append(scores[:, said[u]])
                    state = advance(state, jnp.array([said[u]], jnp.int32))
            b = np.stack(blank, 1)[None]
            e = np.stack(label, 1)[None] if n else np.zeros((1, frames, 0), np.float32)
            loss = transducer_loss(
                jnp.asarray(b), jnp.asarray(e), jnp.array([length]), jnp.array([n])
            )
            found[said] = -float(loss[0])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_likeliest_of_all_sequences(seed):
    """Two symbols and the blank, three frames of at most three symbols, so sequences of
    up to nine of which those of up to three are tried: the best is among them."""
    encoded = np.random.default_rng(seed).normal(size=(2, 3, 4)).astype(np.float32)
    encoded[..., 0] += 1.0
    step, advance, start = of_network(seed, 3, 4, 1.5)
    lengths = [3, 2]
    symbols, number, score = jax.jit(
        lambda x, n: beam_transducer(x, n, start(2), step, advance, 64, 3)
    )(encoded, jnp.array(lengths))
    for row, length in enumerate(lengths):
        all_of_them = chances(encoded[row], length, step, advance, start, 3, 3)
        best = max(all_of_them, key=all_of_them.get)
        assert tuple(symbols[row, : number[row]].tolist()) == best
        np.testing.assert_allclose(score[row], all_of_them[best], atol=1e-4)


def test_ways_to_the_same_words_are_added_up():
    """A blank of .6 until a symbol is said, then of 1, in two frames: no symbol has the
    likeliest way, .6 x .6, yet one symbol is likelier, .4 + .6 x .4. A beam of one word
    has forgotten it after the first frame."""
    frame = np.log(np.array([0.6, 0.4, 1.0, 1e-9], np.float32))
    encoded = jnp.asarray(np.tile(frame, (1, 2, 1)))
    start, lengths = jnp.zeros(1, jnp.int32), jnp.array([2])
    step, advance = of_table(2)
    _, number = greedy_transducer(encoded, lengths, start, step, advance)
    assert number.tolist() == [0]
    for width, said, chance in ((1, [], 0.36), (2, [1], 0.64), (5, [1], 0.64)):
        symbols, number, score = beam_transducer(
            encoded, lengths, start, step, advance, width
        )
        assert symbols[0, : number[0]].tolist() == said
        np.testing.assert_allclose(score, [np.log(chance)], atol=1e-5)


def test_beams_of_many_clients_and_rows_of_no_frames():
    encoded = np.random.default_rng(2).normal(size=(2, 3, 5, 8)).astype(np.float32)
    lengths = np.array([[5, 0, 2], [4, 5, 1]], np.int32)
    step, advance, start = of_network(4, 5, 8)

    def decode(x, n):
        return beam_transducer(x, n, start(3), step, advance, 3, 2)

    each = [decode(x, n) for x, n in zip(encoded, lengths, strict=True)]
    found = jax.jit(jax.vmap(decode))(encoded, lengths)
    for a, b in zip(found, zip(*each, strict=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert float(found[1][0, 1]) == float(found[2][0, 1]) == 0
    alone = decode(encoded[0][:, :2], lengths[0])
    assert alone[1][2] == found[1][0, 2]
    np.testing.assert_allclose(alone[2][2], found[2][0, 2], rtol=1e-5)


def test_shapes_and_numbers_that_cannot_be():
    step, advance, start = of_network(0, 3, 4)
    frames = jnp.zeros((2, 3, 4))
    with pytest.raises(InputError, match="lengths"):
        greedy_transducer(frames, jnp.zeros(3, int), start(2), step, advance)
    with pytest.raises(InputError, match="most_per_frame"):
        greedy_transducer(frames, jnp.zeros(2, int), start(2), step, advance, 0)
    with pytest.raises(InputError, match="three axes"):
        greedy_ctc(frames[0], jnp.zeros(3, int))
    with pytest.raises(InputError, match="width"):
        beam_transducer(frames, jnp.zeros(2, int), start(2), step, advance, 0)
