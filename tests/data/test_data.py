"""Validation: each thing that can be wrong gives one line that names it."""

from __future__ import annotations

import numpy as np
import pytest
from rows import changed

from fedjax_compress.data import check
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


def test_a_sound_data_set_passes_through(make):
    data = make(40, 4)
    assert check(data) is data


def test_a_data_set_is_read_once(make, monkeypatch):
    data = check(make(40, 4))
    monkeypatch.setattr("fedjax_compress.data.dataset.check_rows", None)
    assert check(data) is data


def spoil(array, spot, value):
    spoiled = array.copy()
    spoiled[spot] = value
    return spoiled


BAD = {
    "nan": (
        lambda d: {"train_features": spoil(d.train["features"], (7, 0), np.nan)},
        r"train part: 1 rows .* not finite, first row 7 \(nan\)",
    ),
    "infinity": (
        lambda d: {"test_features": spoil(d.test["features"], (3, 0), np.inf)},
        r"test part: .* first row 3 \(inf\)",
    ),
    "too large for float32": (
        lambda d: {
            "train_features": spoil(d.train["features"].astype(float), (2, 0), -1e200)
        },
        r"1 rows .* too large for float32, first row 2 \(-1e\+200\)",
    ),
    "label too large": (
        lambda d: {"train_labels": spoil(d.train["labels"], 5, 4)},
        r"train part: label 4 in row 5 lies outside 0\.\.3",
    ),
    "label negative": (
        lambda d: {"test_labels": spoil(d.test["labels"], 2, -1)},
        r"test part: label -1 in row 2 lies outside 0\.\.3",
    ),
    "float labels": (
        lambda d: {"train_labels": d.train["labels"].astype(np.float32)},
        "labels must be integers, not float32",
    ),
    "labels in a list": (
        lambda d: {"train_labels": [0] * 40},
        r"train\['labels'\] must be a numpy array of numbers, .* not list",
    ),
    "features of text": (
        lambda d: {"test_features": d.test["features"].astype(str)},
        r"test\['features'\] must be a numpy array of numbers, .* not <U",
    ),
    "client ids in float": (
        lambda d: {"train_clients": np.zeros(40)},
        r"train_clients must be a numpy array of whole numbers, .* not float64\[40\]",
    ),
    "a task of another kind": (
        lambda d: {"task": (4, 4)},
        "task must be a typing.Task, not tuple",
    ),
    "labels in two columns": (
        lambda d: {"train_labels": np.stack([d.train["labels"]] * 2, 1)},
        r"labels have shape \(40, 2\), expected \(40,\)",
    ),
    "lengths": (
        lambda d: {"train_labels": d.train["labels"][:-1]},
        "40 rows of features but 39 labels",
    ),
    "client ids": (
        lambda d: {"train_clients": np.zeros(3, np.int32)},
        "40 rows of features but 3 client ids",
    ),
    "gap in client ids": (
        lambda d: {"train_clients": np.repeat([0, 2], 20).astype(np.int32)},
        r"must be 0\.\.1, not 0\.\.2",
    ),
    "unknown test client": (
        lambda d: {
            "train_clients": np.zeros(40, np.int32),
            "test_clients": np.ones(20, np.int32),
        },
        r"must lie in -1\.\.0, not 1\.\.1",
    ),
    "no rows": (
        lambda d: {
            "test_features": d.test["features"][:0],
            "test_labels": d.test["labels"][:0],
        },
        "test part: no rows",
    ),
    "shape": (
        lambda d: {"task": Task((2,), 4)},
        r"one example has shape \(1,\), expected \(2,\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_each_defect_is_named_in_one_line(make, name):
    change, message = BAD[name]
    data = make(40, 4)
    with pytest.raises(InputError, match=message) as error:
        check(changed(data, **change(data)))
    assert "\n" not in str(error.value)


def test_tokens_must_lie_in_the_vocabulary(make):
    tokens = np.zeros((6, 5), np.int32)
    data = changed(
        make(6, 3),
        task=Task((5,), 3, tokens=True),
        train_features=spoil(tokens, (4, 2), 3),
        train_labels=tokens,
        test_features=tokens,
        test_labels=tokens,
    )
    with pytest.raises(InputError, match=r"token 3 in row 4 lies outside 0\.\.2"):
        check(data)
    assert check(changed(data, train_features=tokens))


def test_the_first_bad_row_is_found_across_blocks(make):
    wide = np.zeros((70, 2**16), np.float32)
    wide[[66, 69], 5] = np.nan
    data = changed(
        make(70, 4),
        task=Task((2**16,), 4),
        train_features=wide,
        test_features=wide[:20],
    )
    with pytest.raises(InputError, match=r"2 rows .* first row 66"):
        check(data)
