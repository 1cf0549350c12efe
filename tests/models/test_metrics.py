"""Figures against plain numpy, written from their definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.models import metrics
from fedjax_compress.typing import Task

ROWS, CLASSES = 40, 3
RNG = np.random.default_rng(0)
WEIGHTS = RNG.uniform(0, 3, ROWS).astype(np.float32)
SCORES = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
SEVERAL = (SCORES + RNG.normal(size=SCORES.shape) > 0.3).astype(np.int32)
CLASS = RNG.integers(0, CLASSES, ROWS)
LENGTHS = RNG.integers(0, 6, ROWS)
SYMBOLS = RNG.integers(0, CLASSES, (ROWS, 5))
LOGITS = RNG.normal(size=(ROWS, 5, CLASSES)).astype(np.float32)
MASKS = RNG.integers(0, CLASSES - 1, (ROWS, 2, 4))  # the last class never occurs
PIXELS = RNG.normal(size=(ROWS, 2, 4, CLASSES)).astype(np.float32)
PIXELS[..., -1] -= 9  # and is never said


def figure(metric, outputs, columns):
    """Of all rows."""
    counts = metric.count({}, columns, jnp.asarray(outputs))
    rows = len(next(iter(columns.values())))
    assert all(
        x.shape[0] == rows and x.dtype == jnp.float32 for x in jax.tree.leaves(counts)
    )
    return float(metric.finish(jax.tree.map(lambda x: jnp.sum(x, 0), counts)))


def accuracy(outputs, columns, weights):
    right = np.argmax(outputs, 1) == columns["labels"]
    return (weights * right).sum() / weights.sum()


def of_tokens(outputs, columns, weights, pad=0):
    labels = columns["labels"]
    counts = labels != pad
    if "lengths" in columns:
        counts = np.arange(labels.shape[1])[None] < columns["lengths"][:, None]
    counts = counts * weights.reshape(-1, *(1,) * (labels.ndim - 1))
    return (counts * (np.argmax(outputs, -1) == labels)).sum() / counts.sum()


def of_pixels(outputs, columns, weights):
    return of_tokens(outputs, columns, weights, pad=-1)


def squared(outputs, columns, weights):
    return np.average(((outputs - columns["labels"]) ** 2).mean(1), weights=weights)


def absolute(outputs, columns, weights):
    return np.average(np.abs(outputs - columns["labels"]).mean(1), weights=weights)


def f1(outputs, columns, weights):
    """From precision and recall."""
    said, true = outputs > 0, columns["labels"] > 0
    both = (weights[:, None] * (said & true)).sum()
    precision = both / (weights[:, None] * said).sum()
    recall = both / (weights[:, None] * true).sum()
    return 2 / (1 / precision + 1 / recall)


def auc(outputs, columns, weights):
    """The share of pairs in the right order, ties half, each by both weights."""
    scores, true = outputs.reshape(-1), columns["labels"].reshape(-1) > 0
    each = np.repeat(weights, outputs.shape[1])
    above = scores[true][:, None] - scores[~true][None]
    pairs = each[true][:, None] * each[~true][None]
    return (pairs * ((above > 0) + 0.5 * (above == 0))).sum() / pairs.sum()


def jaccard(outputs, columns, weights):
    """Of each class that is there or said; pixels by the weights of their pictures."""
    said, found = np.argmax(outputs, -1), []
    for c in range(outputs.shape[-1]):
        a, b = said == c, columns["labels"] == c
        sums = [(weights[:, None, None] * x).sum() for x in (a & b, a | b)]
        found += [sums[0] / sums[1]] if sums[1] else []
    return np.mean(found)


CASES = {
    "accuracy": (metrics.accuracy(), SCORES, {"labels": CLASS}, accuracy),
    "tokens": (metrics.token_accuracy(), LOGITS, {"labels": SYMBOLS}, of_tokens),
    "lengths": (
        metrics.token_accuracy(),
        LOGITS,
        {"labels": SYMBOLS, "lengths": LENGTHS},
        of_tokens,
    ),
    "pixels": (metrics.token_accuracy(-1), PIXELS, {"labels": MASKS}, of_pixels),
    "iou": (metrics.iou(CLASSES), PIXELS, {"labels": MASKS}, jaccard),
    "squared": (metrics.squared_error(), SCORES, {"labels": SCORES[::-1]}, squared),
    "absolute": (metrics.absolute_error(), SCORES, {"labels": SCORES[::-1]}, absolute),
    "f1": (metrics.f1(), SCORES, {"labels": SEVERAL}, f1),
    "auc": (metrics.auc(2**16), SCORES, {"labels": SEVERAL}, auc),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_figure_is_that_of_its_definition(name, weighted):
    metric, outputs, columns, definition = CASES[name]
    weights = WEIGHTS.astype(np.float64) if weighted else np.ones(ROWS)
    wanted = definition(outputs.astype(np.float64), columns, weights)
    given = columns | ({"weights": WEIGHTS} if weighted else {})
    assert 0.1 < wanted < 4
    # So fine are the histograms of auc that each holds one score.
    np.testing.assert_allclose(figure(metric, outputs, given), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_sums_of_two_halves_are_those_of_the_whole(name):
    metric, outputs, columns, _ = CASES[name]

    def sums(part):
        some = {n: x[part] for n, x in (columns | {"weights": WEIGHTS}).items()}
        counts = metric.count({}, some, jnp.asarray(outputs[part]))
        return jax.tree.map(lambda x: jnp.sum(x, 0), counts)

    halves = jax.tree.map(jnp.add, sums(slice(0, 13)), sums(slice(13, None)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), halves, sums(...)
    )


@pytest.mark.parametrize("bins", [2, 3, 8, 64])
def test_auc_is_right_within_what_it_says(bins):
    """Half the share of the pairs whose scores lie in one interval."""
    columns, true = {"labels": SEVERAL}, SEVERAL.reshape(-1) > 0
    place = np.floor(bins / (1 + np.exp(-SCORES.reshape(-1).astype(np.float64))))
    together = np.mean(place[true][:, None] == place[~true][None])
    exact = auc(SCORES.astype(np.float64), columns, np.ones(ROWS))
    found = figure(metrics.auc(bins), SCORES, columns)
    assert 0 < abs(found - exact) <= 0.5 * together + 1e-6


def test_auc_at_its_ends():
    columns = {"labels": np.array([1, 1, 0, 0])}
    sure = jnp.array([50.0, 40, -40, -50])
    assert figure(metrics.auc(), sure, columns) == 1
    assert figure(metrics.auc(), -sure, columns) == 0
    assert figure(metrics.auc(), jnp.ones(4), columns) == 0.5
    with pytest.raises(InputError, match="bins must be at least 2, not 1"):
        metrics.auc(1)


def test_what_was_never_counted_is_zero():
    nothing = {"labels": np.zeros((2, 3), int)}
    assert figure(metrics.token_accuracy(), jnp.zeros((2, 3, 4)), nothing) == 0
    assert figure(metrics.f1(), -jnp.ones((2, 3)), nothing) == 0
    assert figure(metrics.auc(), jnp.ones((2, 3)), nothing) == 0


def test_the_first_of_equal_outputs_is_the_answer():
    outputs = jnp.array([[0.0, 2, 1], [5, 5, 0], [5, 5, 0], [-1, -2, -3]])
    right, _ = metrics.accuracy().count({}, {"labels": np.array([1, 0, 1, 2])}, outputs)
    assert right.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_a_threshold_of_shares():
    columns = {"labels": np.array([[1, 0, 1]])}
    shares = jnp.array([[0.6, 0.4, 0.2]])
    assert figure(metrics.f1(0.5), shares, columns) == pytest.approx(2 / 3)
    assert figure(metrics.f1(), shares, columns) == pytest.approx(4 / 5)


def test_pixels_that_are_not_scored_count_in_neither_figure():
    """Two of three are scored, one of them right: 1/2; of both classes, 1/2 and 0."""
    task = Task((1, 3), 2, target="positions")
    outputs = jnp.array([[[[1.0, 0], [1, 0], [0, 1]]]])
    for kind in (np.int32, np.uint8):
        columns = {"labels": np.array([[[0, 1, 255]]], kind)}
        found = metrics.metrics_for(task, pad=255)
        each = {name: figure(m, outputs, columns) for name, m in found.items()}
        assert each == {"accuracy": 0.5, "iou": 0.25}


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (Task((2,), 3), ["accuracy"]),
        (Task((2,), 3, tokens=True), ["accuracy"]),
        (Task((2, 2), 3, target="positions"), ["accuracy", "iou"]),
        (Task((2,), 3, target="several"), ["f1", "auc"]),
        (Task((2,), 3, target="number"), ["squared_error", "absolute_error"]),
    ],
)
def test_each_task_has_its_figures(task, names):
    found = metrics.metrics_for(task)
    assert list(found) == names
    higher = task.predicts != "number"
    assert {m.better for m in found.values()} == {"higher" if higher else "lower"}
    assert {m.unit for m in found.values()} == {"%" if higher else ""}


@pytest.mark.parametrize("kind", [np.uint8, np.int8, bool])
def test_labels_of_any_kind(kind):
    several = figure(metrics.f1(), SCORES, {"labels": SEVERAL.astype(kind)})
    assert several == figure(metrics.f1(), SCORES, {"labels": SEVERAL})
    if kind is not bool:
        given = {"labels": SYMBOLS.astype(kind), "lengths": LENGTHS.astype(kind)}
        found = figure(metrics.token_accuracy(), LOGITS, given)
        assert found == figure(metrics.token_accuracy(), *CASES["lengths"][1:3])


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "words"),
    [
        (metrics.accuracy(), (4, 3), (4, 1), r"\(4, 3\) need integer .*not \(4, 1\)"),
        (metrics.accuracy(), (4, 5, 3), (4, 5), r"of shape \(4,\), not \(4, 5\)"),
        (metrics.token_accuracy(), (4, 3), (4, 5), "need integer labels"),
        (metrics.iou(3), (4, 2, 2, 3), (4, 2), "need integer labels"),
        (metrics.f1(), (4, 3), (4,), "as many numbers as labels"),
        (metrics.auc(), (4, 3), (4,), "as many numbers as labels"),
        (metrics.squared_error(), (4, 3), (4,), "as many numbers as labels"),
        (metrics.absolute_error(), (4,), (4, 4), "as many numbers as labels"),
    ],
)
def test_shapes_that_do_not_belong_together(metric, outputs, labels, words):
    with pytest.raises(InputError, match=words):
        metric.count({}, {"labels": np.zeros(labels, int)}, jnp.zeros(outputs))


def test_outputs_that_are_no_array():
    """A model with a loss of its own needs figures of its own."""
    columns = {"labels": np.zeros(2, int)}
    for metric in (metrics.accuracy(), metrics.f1(), metrics.squared_error()):
        with pytest.raises(InputError, match="outputs that are a dict, not one array"):
            metric.count({}, columns, {"logits": jnp.zeros((2, 3))})
