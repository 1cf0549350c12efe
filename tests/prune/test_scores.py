"""Scores of units, by hand."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from fedjax_compress import prune, registry
from fedjax_compress.errors import InputError, SpecError

W = {"a": np.float32([[3, -4], [0, 2]]), "b": None}
G = {"a": np.float32([[1, 2], [-5, 0.5]]), "b": None}
A = {"a": np.float32([[1, 4], [25, 9]]), "b": None}


def scored(text, pattern):
    score = registry.build("score", text)
    function = functools.partial(prune.unit_scores, score, pattern)
    found = jax.jit(function)(W, G, A)
    assert found["b"] is None
    assert found["a"].dtype == np.float32
    return np.asarray(found["a"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weight", [3.5, 1]),
        ("weight(norm=l2)", [12.5**0.5, 2**0.5]),
        ("gradient", [1.5, 2.75]),
        ("gradient(l2)", [2.5**0.5, (25.25 / 2) ** 0.5]),
        ("weight_gradient", [(3 + 8) / 2, 0.5]),
        ("weight_gradient(l2)", [(73 / 2) ** 0.5, 0.5**0.5]),
        ("accumulated_gradient", [2.5, 17]),
    ],
)
def test_scores_of_columns_by_hand(text, expected):
    np.testing.assert_allclose(scored(text, prune.column()), expected, rtol=1e-6)


def test_scores_of_rows_take_the_other_axis():
    np.testing.assert_allclose(scored("weight", prune.row()), [1.5, 3], rtol=1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_units_of_unequal_sizes_compare(norm):
    """Equal weights score the same in a whole tile and in one cut off at the end."""
    weights = {"a": np.full((5, 3), -2, np.float32)}
    scores = functools.partial(prune.unit_scores, prune.weight(norm), prune.block(2, 4))
    found = jax.jit(scores)(weights)
    np.testing.assert_allclose(found["a"], 2, rtol=1e-6)


def test_single_elements_score_their_magnitude():
    np.testing.assert_array_equal(
        scored("weight", prune.unstructured()), np.abs(W["a"])
    )


def test_what_a_score_needs_must_be_given():
    pattern = prune.unstructured()
    with pytest.raises(InputError, match="needs gradients"):
        prune.unit_scores(prune.gradient(), pattern, W)
    with pytest.raises(InputError, match="needs accumulated squared gradients"):
        prune.unit_scores(prune.accumulated_gradient(), pattern, W, G)
    with pytest.raises(InputError, match="l1 or l2"):
        prune.weight("l3")
    with pytest.raises(SpecError, match="norm cannot be 'l3'"):
        registry.build("score", "weight(norm=l3)")


@pytest.mark.parametrize(
    ("elements", "root", "words"),
    [
        (
            lambda w, g, a: w.sum(0),
            lambda m: m,
            r"elements must .*2, 2\], not float32\[2\]",
        ),
        (lambda w, g, a: w > 0, lambda m: m, r"elements must .*, not bool\[2, 2\]"),
        (
            lambda w, g, a: w,
            lambda m: m.sum(),
            r"root must .*unit, \[2\], not float32\[\]",
        ),
    ],
)
def test_a_score_of_ones_own_is_checked(elements, root, words):
    score, pattern = prune.Score(elements, root), registry.build("pattern", "column")
    with pytest.raises(InputError, match=words):
        jax.eval_shape(lambda w: prune.unit_scores(score, pattern, w), W)
