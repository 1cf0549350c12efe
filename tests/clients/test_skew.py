"""Labels of each client, and their distance from everybody's, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from rows import changed

from fedjax_compress.clients.skew import count_labels, label_distances
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


def data_of(labels, task, **more):
    """Rows with these labels and further columns."""
    features = np.zeros((len(labels), *task.shape), np.float32)
    columns = {"features": features, "labels": labels, **more}
    return Dataset("made", task, columns, None, columns)


def test_one_class_a_row():
    labels = np.array([0, 0, 2, 2, 2, 1], np.int32)
    data = data_of(labels, Task((1,), 4))
    found = count_labels(data, np.array([0, 1, 1, 1, 0, -1]), 3)
    assert found.counts.tolist() == [[1, 0, 1, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert (found.what, found.names) == ("labels", ("0", "1", "2", "3"))
    assert not found.ordered
    named = changed(data, task=Task((1,), 4, symbols=("cat", " ", "", "dog")))
    found = count_labels(named, np.zeros(6, int), 1)
    assert found.names == ("cat", "' '", "''", "dog")


def test_distances():
    """All together have 3/4 and 1/4: whoever has the one alone, or both alike, is 1/4
    away, whoever has only the other 3/4."""
    found = label_distances(np.array([[8, 0], [4, 4], [0, 0]]))
    np.testing.assert_allclose(found[:2], 0.25)
    assert np.isnan(found[2])
    found = label_distances(np.array([[8, 0], [1, 0], [0, 3]]))
    np.testing.assert_allclose(found, [0.25, 0.25, 0.75])
    assert (label_distances(np.array([[2, 4, 6], [1, 2, 3]])) == 0).all()
    # As many clients as labels, one each: 1 - 1/n.
    np.testing.assert_allclose(label_distances(np.eye(5, dtype=int)), 0.8)


def test_another_column_and_the_own_clients():
    data = data_of(np.zeros(4, np.int32), Task((1,), 2), hsf=np.array([9, 4, 4, 9]))
    owner = np.array([0, 0, 1, 1])
    found = count_labels(data, owner, 2, "hsf")
    assert (found.what, found.names) == ("hsf", ("4", "9"))
    assert found.counts.tolist() == [[1, 1], [1, 1]]
    data = changed(data, train_clients=np.array([0, 0, 1, 2], np.int32))
    found = count_labels(data, owner, 2, "client")
    assert (found.what, found.names) == ("the data's own clients", ("0", "1", "2"))
    assert found.counts.tolist() == [[2, 0, 0], [0, 1, 1]]
    with pytest.raises(InputError, match="partition: by cannot be 'hfs'; did you mean"):
        count_labels(data, owner, 2, "hfs")


def test_numbers_are_cut_into_tenths():
    values = np.random.default_rng(0).permutation(100).astype(np.float32)
    data = data_of(values, Task((1,), 1, target="number"))
    found = count_labels(data, (values >= 50).astype(int), 2)
    assert found.ordered
    assert found.counts.tolist() == [[10] * 5 + [0] * 5, [0] * 5 + [10] * 5]
    assert found.names[:2] == ("up to 9", "up to 19")
    assert found.names[-2:] == ("up to 89", "above 89")


@pytest.mark.parametrize(
    ("values", "counts", "names"),
    [
        ([5, 5, 5], [3], ("all",)),
        ([0, 0, 0, 0, 1], [4, 1], ("up to 0", "above 0")),
        ([2001, 2002, 2003], [1, 1, 1], ("up to 2001", "up to 2002", "above 2002")),
    ],
)
def test_few_numbers_are_fewer_parts(values, counts, names):
    """Nobody's parts do not occur, and names tell the parts apart."""
    labels = np.array(values, np.float32)[:, None]
    data = data_of(labels, Task((1,), 1, target="number"))
    found = count_labels(data, np.zeros(len(labels), int), 1)
    assert found.counts.tolist() == [counts]
    assert found.names == names


def test_of_several_numbers_the_first():
    labels = np.stack([np.arange(20), np.zeros(20)], axis=1).astype(np.float32)
    data = data_of(labels, Task((1,), 2, target="number"))
    assert count_labels(data, np.zeros(20, int), 1).counts.tolist() == [[2] * 10]


def test_several_classes_a_row():
    labels = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]], np.int32)
    data = data_of(labels, Task((1,), 3, target="several"))
    found = count_labels(data, np.array([0, 1, -1]), 2)
    assert (found.what, found.counts.tolist()) == ("labels", [[1, 1, 0], [0, 0, 0]])


def test_positions():
    labels = np.array([[1, 2, 2], [0, 1, 1]], np.int32)
    task = Task((3,), 3, target="positions")
    owner = np.array([1, 0])
    found = count_labels(data_of(labels, task), owner, 2)
    assert (found.what, found.counts.tolist()) == ("symbols", [[1, 2, 0], [0, 1, 2]])
    lengths = np.array([2, 3], np.int32)
    found = count_labels(data_of(labels, task, lengths=lengths), owner, 2)
    assert found.counts.tolist() == [[1, 2, 0], [0, 1, 1]]
    tokens = Task((3,), 3, tokens=True)  # of which 0 is the padding
    found = count_labels(data_of(labels, tokens), owner, 2)
    assert found.counts.tolist() == [[0, 2, 0], [0, 1, 2]]
    pixels = np.stack([labels, labels], axis=2)  # [rows, height, width]
    found = count_labels(data_of(pixels, Task((3, 2), 3, target="positions")), owner, 2)
    assert found.counts.tolist() == [[2, 4, 0], [0, 2, 4]]


def test_sequences():
    labels = np.array([[1, 2, 0], [2, 0, 0]], np.int32)
    task = Task((3,), 3, target="sequence", longest=3)
    lengths = np.array([2, 1], np.int32)
    data = data_of(labels, task, label_lengths=lengths)
    found = count_labels(data, np.array([0, 1]), 2)
    assert (found.what, found.counts.tolist()) == ("symbols", [[0, 1, 1], [0, 0, 1]])
