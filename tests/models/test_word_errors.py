"""Edit distances, words among letters, and error rates over rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.models.metrics import ratio
from fedjax_compress.models.speech.word_errors import cer, edit_distance, wer, words_of


def distance(said: list[int], true: list[int]) -> int:
    """The whole table, an entry at a time."""
    table = np.zeros((len(said) + 1, len(true) + 1), int)
    table[:, 0], table[0] = np.arange(len(said) + 1), np.arange(len(true) + 1)
    for i, s in enumerate(said, 1):
        for j, r in enumerate(true, 1):
            ways = table[i - 1, j - 1] + (s != r), table[i - 1, j], table[i, j - 1]
            table[i, j] = min(ways[0], ways[1] + 1, ways[2] + 1)
    return int(table[-1, -1])


def rows(words: list[list[int]], room: int, filling: int = 0) -> tuple:
    """As arrays, with something behind each row."""
    made = np.full((len(words), room), filling, np.int32)
    for row, word in zip(made, words, strict=True):
        row[: len(word)] = word
    return jnp.asarray(made), jnp.array([len(w) for w in words], jnp.int32)


def letters(text: str, room: int, filling: int = 0) -> tuple:
    """Rows of letters 1 .. 26, a space being 27, from texts with | between them."""
    rank = {c: i + 1 for i, c in enumerate("abcdefghijklmnopqrstuvwxyz ")}
    return rows([[rank[c] for c in line] for line in text.split("|")], room, filling)


@pytest.mark.parametrize(
    ("said", "errors"),
    [([1, 3], 1), ([1, 2, 2, 3], 1), ([], 3), ([4, 5, 6, 7], 4), ([1, 2, 3], 0)],
)
def test_error_rates_by_hand(said, errors):
    """Of "1 2 3": a word left out, one too many, all left out, all wrong and more."""
    metric = wer(lambda params, columns, outputs: outputs)
    labels, lengths = rows([[1, 2, 3]], 5)
    columns = {"labels": labels, "label_lengths": lengths}
    sums = metric.count({}, columns, rows([said], 6))
    assert [x.tolist() for x in sums] == [[errors], [3]]
    found = metric.finish(jax.tree.map(jnp.sum, sums))
    np.testing.assert_allclose(found, errors / 3, rtol=1e-6)


def test_the_rate_is_of_all_words_and_rows_count_by_their_weight():
    labels, lengths = rows([[1, 2, 3, 4], [5], [], [6, 7]], 4, filling=9)
    said = rows([[1, 2, 3, 4], [6], [8], [6]], 7, filling=9)
    columns = {"labels": labels.astype(jnp.uint8), "label_lengths": lengths}
    metric = cer(lambda params, columns, outputs: said)
    errors, words = metric.count({}, columns, None)
    assert errors.tolist() == [0, 1, 1, 1]  # a row of no words may have errors
    assert words.tolist() == [4, 1, 0, 2]
    assert {errors.dtype, words.dtype} == {jnp.dtype(jnp.float32)}
    columns["weights"] = np.array([1, 3, 0, 2], np.uint8)
    errors, words = metric.count({}, columns, None)
    assert errors.tolist() == [0, 3, 0, 2]
    assert words.tolist() == [4, 3, 0, 4]
    assert (metric.better, metric.unit) == ("lower", "%")
    assert metric.finish is ratio  # what makes the figure exact on the host
    assert float(metric.finish([jnp.float32(3), jnp.float32(0)])) == 0


@pytest.mark.parametrize("symbols", [2, 4, 30])
def test_distance_is_that_of_the_whole_table(symbols):
    rng = np.random.default_rng(symbols)
    one, other = (
        [rng.integers(0, symbols, rng.integers(0, n + 1)).tolist() for _ in range(60)]
        for n in (9, 12)
    )
    wanted = [distance(s, r) for s, r in zip(one, other, strict=True)]
    found = edit_distance(*rows(one, 9, 1), *rows(other, 12, 1))
    assert found.dtype == jnp.int32
    assert found.tolist() == wanted
    assert edit_distance(*rows(other, 12), *rows(one, 9)).tolist() == wanted
    assert not edit_distance(*rows(one, 9), *rows(one, 11, 3)).any()


def test_one_program_for_many_clients():
    rng = np.random.default_rng(0)
    said, true = rng.integers(0, 3, (2, 4, 5, 6)).astype(np.int32)
    number, lengths = rng.integers(0, 7, (2, 4, 5)).astype(np.int32)
    each = [edit_distance(*x) for x in zip(said, number, true, lengths, strict=True)]
    found = jax.jit(jax.vmap(edit_distance))(said, number, true, lengths)
    np.testing.assert_array_equal(found, each)


def test_words_are_runs_between_boundaries():
    text = "the cat sat on the mat|  the  the|a| |"
    ids, number = words_of(*letters(text, 30), 27)
    assert number.tolist() == [6, 2, 1, 0, 0]
    the, cat, sat, on, again, mat = ids[0, :6].tolist()
    assert the == again
    assert len({the, cat, sat, on, mat}) == 5
    assert ids[1, :2].tolist() == [the, the]
    assert not ids[0, 6:].any()
    assert not ids[1, 2:].any()


def test_a_word_may_end_with_its_row_and_what_stands_behind_is_not_read():
    whole, number = words_of(*letters("ab|ab cd|a", 6), 27)
    for filling in (2, 27):
        same, count = words_of(*letters("ab|ab cd|a", 6, filling), 27)
        assert count.tolist() == number.tolist() == [1, 2, 1]
        np.testing.assert_array_equal(same, whole)


def test_many_words_have_as_many_numbers():
    """All of up to four letters of eight, 4 680 words: two of them have the same
    number with odds of 0.0026. And their letters in another order are another word."""
    words = [
        [int(c) + 1 for c in np.base_repr(i, 8).zfill(n)]
        for n in (1, 2, 3, 4)
        for i in range(8**n)
    ]
    ids, number = words_of(*rows(words, 4), 0)
    assert number.tolist() == [1] * len(words)
    assert len(set(ids[:, 0].tolist())) == len(words)


def test_letters_give_word_errors():
    """Against words that are compared as strings."""
    rng = np.random.default_rng(1)
    vocabulary = ["a", "ab", "ba", "abc", "b", "cab"]
    said, true = (
        [" ".join(rng.choice(vocabulary, rng.integers(0, 6))) for _ in range(40)]
        for _ in range(2)
    )
    rank = {word: i for i, word in enumerate(vocabulary)}
    wanted = [
        distance([rank[w] for w in s.split()], [rank[w] for w in t.split()])
        for s, t in zip(said, true, strict=True)
    ]
    labels, lengths = letters("|".join(true), 24, filling=3)
    columns = {"labels": labels, "label_lengths": lengths}
    decoded = letters("|".join(said), 24, filling=2)
    metric = wer(lambda params, columns, outputs: decoded, boundary=27)
    errors, words = jax.jit(lambda c: metric.count({}, c, None))(columns)
    assert errors.tolist() == wanted
    assert words.tolist() == [len(t.split()) for t in true]
