"""Partitions with a number of labels for each client: pathological, label_count."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from fedjax_compress import registry
from fedjax_compress.clients import _pathological
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


def assign(text, data, clients, seed=0):
    return registry.build("partition", text)(data, clients, np.random.default_rng(seed))


def table_of(got, labels, clients):
    """Rows of each label by client."""
    table = np.zeros((clients, int(labels.max()) + 1), int)
    np.add.at(table, (got, labels), 1)
    return table


def data_of(rows):
    """So many rows of each label, in no order."""
    labels = np.random.default_rng(1).permutation(np.repeat(range(len(rows)), rows))
    labels = labels.astype(np.int32)
    columns = {"features": np.zeros((len(labels), 1), np.float32), "labels": labels}
    return Dataset("made", Task((1,), len(rows)), columns, None, columns)


def test_a_hundred_clients_of_two_of_ten_labels():
    """McMahan's setting: 200 places, 20 for each label of 600 rows."""
    data = data_of([600] * 10)
    for seed in range(5):
        got = assign("pathological", data, 100, seed)
        table = table_of(got, data.train["labels"], 100)
        assert ((table > 0).sum(axis=1) == 2).all()
        assert ((table > 0).sum(axis=0) == 20).all()
        assert (table.sum(axis=1) == 60).all()
        assert set(table[table > 0]) == {30}


@given(
    rows=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    clients=st.integers(1, 25),
    classes=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_what_pathological_guarantees(rows, clients, classes, seed):
    """At most so many labels, exactly so many where no label is too rare; all labels,
    all rows; sizes that nobody who shares a label could make more equal."""
    data, text = data_of(rows), f"pathological(classes={classes})"
    if classes > len(rows) or clients * classes < len(rows) or clients > sum(rows):
        with pytest.raises(InputError):
            assign(text, data, clients, seed)
        return
    got = assign(text, data, clients, seed)
    table = table_of(got, data.train["labels"], clients)
    assert (table.sum(axis=0) == rows).all()
    labels = (table > 0).sum(axis=1)
    assert labels.min() >= 1
    assert labels.max() <= classes
    if min(rows) >= clients:
        assert (labels == classes).all()
    sizes = table.sum(axis=1)
    for label in range(len(rows)):
        mine = np.flatnonzero(table[:, label] > 1)  # could give one away
        if len(mine):
            theirs = sizes[table[:, label] > 0]
            assert sizes[mine].max() <= theirs.min() + 1


def test_places_go_to_the_label_with_most_rows_for_each(make):
    """12, 6, 2 rows: one place each; then 12 -> 6 -> 4 rows a place; at 6 and 6 the
    first comes first."""
    places = _pathological._places
    rows = np.array([12, 6, 2])
    assert places(rows, 4, 1).tolist() == [2, 1, 1]
    assert places(rows, 5, 1).tolist() == [3, 1, 1]
    assert places(rows, 6, 1).tolist() == [3, 2, 1]
    # Nobody has a label twice, and a label of two rows has two clients at most.
    assert places(rows, 3, 2).tolist() == [3, 2, 1]
    assert places(rows, 3, 3).tolist() == [3, 3, 2]


def test_water_finds_its_level():
    """Others have 5, 0, 2; of 6 rows each gets one, two more raise 1 to 3, one is over:
    it goes to the first of the lowest, which then has 4."""
    fill = _pathological._fill
    assert fill(np.array([5, 0, 2]), 6).tolist() == [1, 4, 1]
    assert fill(np.array([5, 0, 2]), 3).tolist() == [1, 1, 1]
    assert fill(np.array([5, 0, 2]), 15).tolist() == [2, 8, 5]
    assert fill(np.array([0, 0]), 3).tolist() == [2, 1]
    assert fill(np.array([7]), 4).tolist() == [4]


def test_rare_labels_make_some_clients_have_fewer():
    """One row of a label, twenty of the other: one client alone has both."""
    data = data_of([1, 20])
    got = assign("pathological(classes=2)", data, 5)
    table = table_of(got, data.train["labels"], 5)
    assert sorted((table > 0).sum(axis=1)) == [1, 1, 1, 1, 2]
    assert sorted(table.sum(axis=1)) == [4, 4, 4, 4, 5]


def test_labels_are_drawn_alike_by_all_clients():
    """8 of 10 clients have label 0, each with probability 0.8 whatever its id: of
    2,000 draws 1,600, standard deviation 17.9; six of them, 10 clients: below 1e-7.
    The first to draw would have it with 0.72 only."""
    places = _pathological._places(np.array([40, 30, 20, 10]), 10, 2)
    assert places.tolist() == [8, 6, 4, 2]
    has = np.zeros(10)
    for seed in range(2000):
        owners = _pathological._draw(places, 10, np.random.default_rng(seed))
        assert [len(who) for who in owners] == [8, 6, 4, 2]
        has[owners[0]] += 1
    assert (abs(has - 1600) < 6 * 17.9).all()


def test_label_count_splits_each_label_evenly():
    rows = [50, 100, 7, 83, 60]
    data = data_of(rows)
    got = assign("label_count(classes=2)", data, 12)
    table = table_of(got, data.train["labels"], 12)
    assert (table.sum(axis=0) == rows).all()
    for label, column in enumerate(table.T):
        share = column[column > 0]
        assert share.max() - share.min() <= 1
        owners = [c for c in range(12) if c % 5 == label]
        assert (column[owners] > 0).all() or rows[label] < 12
    assert (table > 0).sum(axis=1).max() == 2
    # What is level is the labels; the other partition of the two levels sizes.
    other = assign("pathological(classes=2)", data, 12)
    assert np.ptp(table.sum(axis=1)) > 5
    assert np.ptp(np.bincount(other)) <= 1


def test_label_count_draws_the_other_labels_alike():
    """4,000 clients, 5 labels: of the 800 whose first is i each other label j is the
    second of 200, standard deviation 12.2; six of them, 20 pairs: below 1e-7."""
    data = data_of([20_000] * 5)
    table = table_of(assign("label_count", data, 4000), data.train["labels"], 4000) > 0
    first = np.arange(4000) % 5
    assert table[np.arange(4000), first].all()
    assert (table.sum(axis=1) == 2).all()
    for i in range(5):
        second = table[first == i].sum(axis=0)
        assert second[i] == 800
        assert (abs(np.delete(second, i) - 200) < 6 * 12.25).all()


def test_all_labels_for_everybody_is_the_whole_in_small():
    for text in ("label_count(classes=3)", "pathological(classes=3)"):
        data = data_of([40, 20, 80])
        table = table_of(assign(text, data, 10), data.train["labels"], 10)
        if text.startswith("label"):
            assert (table == [4, 2, 8]).all()
        assert (table > 0).all()
        assert (table.sum(axis=1) == 14).all()


def test_a_class_without_rows_is_no_label(make):
    labels = np.where(np.arange(600) % 2, 3, 7)
    for text in ("label_count(classes=1)", "pathological(classes=1)"):
        got = assign(text, make(labels=labels), 6)
        assert (np.bincount(got) == 100).all()


@pytest.mark.parametrize(
    ("text", "clients", "words"),
    [
        ("pathological(classes=4)", 9, "classes is 4, but the training rows of made"),
        ("label_count(classes=4)", 9, "have 3 labels; lower classes to 3 or less"),
        ("pathological", 1, "1 clients with 2 labels each cannot have all 3 labels"),
        ("pathological(classes=1)", 2, "ask for at least 3 clients, or raise classes"),
        ("label_count", 2, "ask for at least 3 clients, or use pathological"),
        ("label_count(classes=1)", 30, "17 of 30 clients would be empty; lower cli"),
    ],
)
def test_what_cannot_be_dealt_is_one_line(text, clients, words):
    data = data_of([1, 2, 60])
    with pytest.raises(InputError) as error:
        assign(text, data, clients)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
