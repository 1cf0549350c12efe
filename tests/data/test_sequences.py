"""Sequences of symbols beside features: a user's own columns, and what is refused."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.clients import share_test_rows
from fedjax_compress.data import Dataset, _tfds, check
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

ROWS, FRAMES, BINS, LONGEST = 40, 12, 5, 4
RNG = np.random.default_rng(0)
MEL = RNG.normal(size=(ROWS, FRAMES, BINS)).astype(np.float32)
SEEN = np.arange(ROWS) % FRAMES + 1
WORDS = np.arange(ROWS) % (LONGEST + 1)  # none in some rows
SAID = np.where(
    np.arange(LONGEST) < WORDS[:, None], RNG.integers(1, 7, (ROWS, LONGEST)), 0
)
SAID[ROWS - 1, 0] = 6
COLUMNS = {"features": MEL, "labels": SAID, "seen": SEEN, "words": WORDS}
OPTIONS = ", target=sequence, lengths=seen, label_lengths=words"


@pytest.fixture(params=["npz", "npy"])
def read(request, tmp_path):
    """(options, columns) -> the data, by both sources."""

    def by_npz(options, columns):
        np.savez(tmp_path / "own.npz", **columns)
        path = tmp_path / "own.npz"
        return registry.build("data", f"npz('{path}', features=features{options})")

    def by_npy(options, columns):
        for name, column in columns.items():
            np.save(tmp_path / f"{name}.npy", column)
            np.save(tmp_path / f"test_{name}.npy", column[:9])
        return registry.build("data", f"npy('{tmp_path}'{options})")

    return by_npz if request.param == "npz" else by_npy


@pytest.mark.parametrize("classes", [0, 7, 9])
def test_ones_own_sequences(classes, read):
    said = f", classes={classes}" if classes else ""
    data = read(OPTIONS + said, COLUMNS)
    assert data.task == Task(
        (FRAMES, BINS),  # no axis of channels, as a picture gets
        classes or 7,
        scale=1.0,
        target="sequence",
        more=(("label_lengths", (), "int32"), ("lengths", (), "int32")),
        longest=LONGEST,
    )
    for part in (data.train, data.test):
        assert part["features"].shape[1:] == (FRAMES, BINS)
        assert {part[n].dtype for n in part if n != "features"} == {np.dtype(np.int32)}
        np.testing.assert_array_equal(
            (part["labels"] > 0).sum(axis=1), part["label_lengths"]
        )


def test_features_in_a_folder_stay_on_the_disk(tmp_path):
    for name, column in COLUMNS.items():
        np.save(tmp_path / f"{name}.npy", column)
        np.save(tmp_path / f"test_{name}.npy", column[:9])
    data = registry.build("data", f"npy('{tmp_path}'{OPTIONS})")
    assert isinstance(data.train["features"], np.memmap)
    assert not isinstance(data.train["label_lengths"], np.memmap)
    np.testing.assert_array_equal(data.train["features"], MEL)


def test_lengths_of_frames_may_be_unknown(read):
    data = read(", target=sequence, label_lengths=words", COLUMNS)
    assert data.task.more == (("label_lengths", (), "int32"),)


def test_tokens_may_be_read_for_sequences(read):
    tokens = RNG.integers(1, 9, (ROWS, FRAMES)).astype(np.int32)
    data = read(f"{OPTIONS}, tokens=true", COLUMNS | {"features": tokens})
    assert data.task[:3] == ((FRAMES,), 7, True)
    assert data.task.predicts == "sequence"


def test_features_of_tensorflow_datasets_may_be_sequences(monkeypatch):
    class Builder:
        name = "mel"
        info = types.SimpleNamespace(
            features=dict.fromkeys(COLUMNS), splits=["train"], supervised_keys=None
        )

        def as_data_source(self, split):
            return [{n: x[i] for n, x in COLUMNS.items()} for i in range(ROWS)]

    monkeypatch.setattr(_tfds, "_open", lambda name, data_dir: Builder())
    data = registry.build(
        "data", f"tfds(mel, features=features, label=labels{OPTIONS})"
    )
    assert data.task.predicts == "sequence"
    assert data.task[:2] == ((FRAMES, BINS), 7)
    assert data.task.longest == LONGEST
    assert len(data.test["label_lengths"]) == ROWS // 10


def test_sequences_are_dealt_without_classes(read):
    data = read(OPTIONS, COLUMNS)
    rng = np.random.default_rng(0)
    owner = registry.build("partition", "iid")(data, 4, rng)
    assert np.bincount(owner).tolist() == [len(owner) // 4] * 4
    assert (share_test_rows(data, owner, 4, rng) >= 0).all()
    with pytest.raises(InputError, match="dirichlet needs one label a row"):
        registry.build("partition", "dirichlet")(data, 4, rng)


def with_one(column, row, value, spot=()):
    """A column, one of whose values is another."""
    changed = column.copy()
    changed[(row, *spot)] = value
    return changed


WRONG = {
    "no label lengths": (
        ", target=sequence, lengths=seen",
        {},
        "a sequence needs the column label_lengths, the number of symbols",
    ),
    "no sequence": (
        ", target=number, label_lengths=words",
        {},
        "label_lengths are those of a sequence; say target=sequence",
    ),
    "nothing said": ("", {}, r"say what they are: .* sequence for symbols in order"),
    "one symbol a row": (
        OPTIONS,
        {"labels": SAID[:, 0]},
        r"labels of a sequence must have shape \[rows, symbols\], not \(\d+,\)",
    ),
    "too many symbols": (
        OPTIONS,
        {"words": WORDS + 1},
        r"label length 5 in row \d+ lies outside 0\.\.4",
    ),
    "broken": (
        OPTIONS,
        {"words": WORDS / 2},
        r"label length 0\.5 in row \d is no",
    ),
    "two label lengths": (
        OPTIONS,
        {"words": SAID},
        r"label_lengths must be one number a row, \[\d+\], not",
    ),
    "a symbol too large": (
        f"{OPTIONS}, classes=6",
        {},
        r"label 6 in row \d+ lies outside 0\.\.5",
    ),
    "negative": (OPTIONS, {"labels": -SAID}, r"label -\d in row \d+ lies outside"),
    "no frame": (
        OPTIONS,
        {"seen": SEEN - 1},
        r"row \d+ has length 0, but a sequence needs at least one frame; leave",
    ),
    "too many frames": (
        OPTIONS,
        {"seen": SEEN + 1},
        r"length 13 in row \d+ lies outside 0\.\.12",
    ),
    "a name that is taken": (
        f"{OPTIONS}, inputs=label_lengths",
        {},
        "inputs: 'label_lengths' is the name of a column",
    ),
    "missing": (
        ", target=sequence, label_lengths=word",
        {},
        "did you mean 'words'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_sequences_that_cannot_be_are_one_line(case, read):
    options, columns, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        read(options, COLUMNS | columns)
    assert "\n" not in caught.value.reason


@pytest.fixture
def data():
    """Sequences of which rows 3, 8, ... have three symbols."""
    columns = {
        "features": MEL,
        "labels": SAID.astype(np.int32),
        "label_lengths": WORDS.astype(np.int32),
    }
    task = Task((FRAMES, BINS), 7, target="sequence", longest=LONGEST)
    return Dataset("own", task, columns, None, {n: x[:9] for n, x in columns.items()})


def test_rows_of_symbols_are_named(data):
    assert check(data).task.more == (("label_lengths", (), "int32"),)
    for row, spot, value, message in (
        (3, 1, 0, r"own, train part: row 3 has a 0 among its 3 symbols, .* 1\.\.6"),
        (8, 3, 5, "row 8 has symbol 5 after its 3 symbols, where labels must be 0"),
        (0, 0, 1, "row 0 has symbol 1 after its 0 symbols"),
    ):
        labels = with_one(data.train["labels"], row, value, (spot,))
        wrong = dataclasses.replace(data, train=data.train | {"labels": labels})
        with pytest.raises(InputError, match=message):
            check(wrong)
    labels = with_one(data.test["labels"], 7, 0, (0,))
    wrong = dataclasses.replace(data, test=data.test | {"labels": labels})
    with pytest.raises(InputError, match="own, test part: row 7 has a 0 among its 2"):
        check(wrong)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"longest": 0}, "needs task.longest, the symbols of a row, of at least 1"),
        ({"longest": 5}, r"labels have shape \(40, 4\), expected \(40, 5\)"),
        ({"symbols": tuple("abcdef")}, "names 6 symbols, but has 7 classes; the first"),
    ],
)
def test_tasks_that_do_not_fit_are_one_line(task, message, data):
    with pytest.raises(InputError, match=message):
        check(dataclasses.replace(data, task=data.task._replace(**task)))
    named = data.task._replace(symbols=("", *"abcdef"))
    assert check(dataclasses.replace(data, task=named)).task.symbols[1] == "a"
