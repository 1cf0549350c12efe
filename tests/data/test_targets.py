"""What is predicted: as it is said, as labels look, and what is refused; columns that
say what rows count for, or that a model of one's own reads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.clients import share_test_rows
from fedjax_compress.data import check, describe_features, describe_target
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

ROWS, LENGTH = 40, 6
RNG = np.random.default_rng(0)
PICTURES = RNG.random((ROWS, 4, 5)).astype(np.float32)
TOKENS = RNG.integers(1, 9, (ROWS, LENGTH)).astype(np.int32)
CLASSES = np.arange(ROWS, dtype=np.int32) % 3
PRICES = RNG.normal(size=ROWS).astype(np.float32)
TAGS = RNG.integers(0, 2, (ROWS, 4)).astype(np.int32)
MASKS = (PICTURES > 0.5).astype(np.int32)


@pytest.fixture(params=["npz", "npy"])
def read(request, tmp_path):
    """(options, columns) -> the data, by both sources."""

    def by_npz(options="", **columns):
        np.savez(tmp_path / "own.npz", **columns)
        path = tmp_path / "own.npz"
        return registry.build("data", f"npz('{path}', features=features{options})")

    def by_npy(options="", **columns):
        for name, column in columns.items():
            np.save(tmp_path / f"{name}.npy", column)
            np.save(tmp_path / f"test_{name}.npy", column[:9])
        return registry.build("data", f"npy('{tmp_path}'{options})")

    return by_npz if request.param == "npz" else by_npy


FOUND = {
    "classes": (CLASSES, "", Task((4, 5, 1), 3, scale=1.0), "one of 3 classes"),
    "whole floats": (CLASSES / 1.0, "", None, "one of 3 classes"),
    "numbers": (PRICES, "", Task((4, 5, 1), 1, scale=1.0, target="number"), "a number"),
    "doubles": (PRICES.astype(float), "", None, "a number"),
    "two numbers": (np.stack([PRICES] * 2, 1), "", None, "2 numbers"),
    "whole numbers": (CLASSES, ", target=number", None, "a number"),
    "tags": (
        TAGS,
        ", target=several",
        Task((4, 5, 1), 4, scale=1.0, target="several"),
        "which of 4 classes",
    ),
    "truth values": (TAGS > 0, ", target=several", None, "which of 4 classes"),
    "masks": (
        MASKS,
        "",
        Task((4, 5, 1), 2, scale=1.0, target="positions"),
        "one of 2 classes at each position",
    ),
    "masks like pictures": (
        MASKS[..., None],
        ", target=positions",
        None,
        "one of 2 classes at each position",
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_is_predicted(case, read):
    labels, options, task, words = FOUND[case]
    data = read(options, features=PICTURES, labels=labels)
    assert task is None or data.task == task
    assert describe_target(data) == words
    kind = np.float32 if data.task.predicts == "number" else np.int32
    assert {part["labels"].dtype for part in (data.train, data.test)} == {
        np.dtype(kind)
    }
    if len(data.train["labels"]) == ROWS:  # by npy
        np.testing.assert_allclose(
            np.asarray(data.train["labels"], float),
            labels.reshape(data.train["labels"].shape),
            rtol=1e-6,
        )


def test_tokens_are_predicted_at_each_position(read):
    data = read(", tokens=true, classes=9", features=TOKENS, labels=TOKENS)
    assert data.task == Task((LENGTH,), 9, tokens=True)
    assert describe_target(data) == "one of 9 classes at each position"
    data = read(
        ", tokens=true, target=class, classes=9", features=TOKENS, labels=CLASSES
    )
    assert data.task == Task((LENGTH,), 9, tokens=True, target="class")
    # A row may be held out whose price nobody else has.
    data = read(", tokens=true, target=number", features=TOKENS, labels=PRICES)
    assert data.task.predicts == "number"


def test_what_rows_count_for(read):
    lengths, weights = CLASSES + 1, np.abs(PRICES).astype(float)
    data = read(
        ", tokens=true, classes=9, lengths=seen, weights=worth",
        features=TOKENS,
        labels=TOKENS,
        seen=lengths,
        worth=weights,
    )
    assert data.task.more == (("lengths", (), "int32"), ("weights", (), "float32"))
    assert describe_target(data) == (
        "one of 9 classes at each position, up to the length of each row, "
        "rows by weights"
    )
    assert describe_features(data) == "int32 tokens"


@pytest.mark.parametrize("said", ["(age, place)", "'age, place'", "('age,place')"])
def test_further_columns(said, read):
    place = RNG.random((ROWS, 2)).astype(np.float32)
    data = read(
        f", inputs={said}",
        features=PICTURES,
        labels=CLASSES,
        age=(CLASSES + 20).astype(np.int32),
        place=place,
    )
    assert data.task.more == (("age", (), "int32"), ("place", (2,), "float32"))
    assert describe_features(data) == "float32 numbers as they are, with age and place"
    for part in (data.train, data.test):
        np.testing.assert_array_equal(np.asarray(part["age"]) - 20, part["labels"])


WRONG = {
    "two columns": (TAGS, "", r"shape \(\d+, 4\); say what they are: target=several"),
    "two of several": (
        TAGS + 1,
        ", target=several",
        r"label 2 in row \d+ lies outside",
    ),
    "one column of several": (CLASSES, ", target=several", r"expected \(\d+, 1\)"),
    "fractions of classes": (
        PRICES,
        ", target=class",
        r"label -?\d\S+ in row 0 is no whole number",
    ),
    "words": (np.full(ROWS, "a"), ", target=number", "labels must be numbers, not <U1"),
    "no target": (CLASSES, ", target=classes", "did you mean 'class'"),
    "another number": (
        PRICES,
        ", classes=2",
        "classes is 2, but labels hold 1 numbers",
    ),
    "nan": (np.where(CLASSES, PRICES, np.nan), "", "labels that are not finite"),
    "large": (
        PRICES.astype(float) * 1e300,
        ", target=number",
        "labels that are too large for float32",
    ),
    "numbers of pictures": (PICTURES, "", r"shape \(\d+, 4, 5\), expected \(\d+, 4\)"),
    "other positions": (MASKS[:, :3], "", r"shape \(\d+, 3, 5\), expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_targets_that_cannot_be_are_one_line(case, read):
    labels, options, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        read(options, features=PICTURES, labels=labels)
    assert "\n" not in caught.value.reason


COUNTING = {
    "too long": (
        ", lengths=own",
        CLASSES + 6,
        r"length \d in row \d+ lies outside 0\.\.6",
    ),
    "broken": (", lengths=own", PRICES, r"length \S+ in row 0 is no whole number"),
    "two lengths": (
        ", lengths=own",
        TAGS,
        r"lengths must be one number a row, \[\d+\]",
    ),
    "negative": (", weights=own", CLASSES - 1.0, r"negative, as in row \d+ \(-1\)"),
    "nothing": (", weights=own", CLASSES * 0, "all weights are 0"),
    "missing": (", weights=owns", CLASSES, "did you mean 'own'"),
    "a name that is taken": (
        ", inputs=labels",
        CLASSES,
        "inputs: 'labels' is the name",
    ),
    "text": (", inputs=own", np.full(ROWS, "a"), "own (must be numbers, not|are) <U1"),
    "fewer": (", inputs=own", CLASSES[:11], r"40 rows of features but 11 own"),
}


@pytest.mark.parametrize("case", COUNTING)
def test_columns_that_cannot_be_are_one_line(case, read):
    options, column, message = COUNTING[case]
    with pytest.raises(InputError, match=message) as caught:
        read(
            f", tokens=true, classes=9{options}",
            features=TOKENS,
            labels=TOKENS,
            own=column,
        )
    assert "\n" not in caught.value.reason


def test_integers_of_64_bits_must_fit_32(tmp_path):
    for value, fits in ((2**31 - 1, True), (2**31, False)):
        wide = np.full(ROWS, value)
        np.savez(tmp_path / "own.npz", images=PICTURES, labels=CLASSES, wide=wide)
        text = f"npz('{tmp_path}/own.npz', inputs=wide)"
        if fits:
            assert registry.build("data", text).train["wide"].dtype == np.int32
            continue
        with pytest.raises(InputError, match="wide must fit 32 bits"):
            registry.build("data", text)


def test_masks_in_a_folder_stay_on_the_disk_or_are_refused(tmp_path):
    for name, column in (("features", PICTURES), ("labels", MASKS)):
        np.save(tmp_path / f"{name}.npy", column)
        np.save(tmp_path / f"test_{name}.npy", column[:9])
    data = registry.build("data", f"npy('{tmp_path}')")
    assert isinstance(data.train["labels"], np.memmap)
    np.save(tmp_path / "labels.npy", MASKS.astype(np.uint8))
    with pytest.raises(
        InputError, match=r"labels of positions are uint8, but .* int32"
    ):
        registry.build("data", f"npy('{tmp_path}')")


def test_parts_whose_further_columns_differ_are_refused(make):
    data = make(40, 4)
    columns = [part | {"age": part["features"]} for part in (data.train, data.test)]
    columns[1]["age"] = columns[1]["age"].repeat(2, axis=1)
    data = dataclasses.replace(data, train=columns[0], test=columns[1])
    with pytest.raises(
        InputError, match=r"age has shape \(1,\) .* but \(2,\) in the te"
    ):
        check(data)
    with pytest.raises(InputError, match="age is in one of them only"):
        check(dataclasses.replace(data, test=make(40, 4).test))


def test_rows_are_dealt_where_there_are_no_classes(read):
    data = read("", features=PICTURES, labels=PRICES)
    rng = np.random.default_rng(0)
    owner = registry.build("partition", "iid")(data, 4, rng)
    assert np.bincount(owner).tolist() == [len(owner) // 4] * 4
    assert (share_test_rows(data, owner, 4, rng) >= 0).all()
    with pytest.raises(InputError, match="dirichlet needs classes, but the labels"):
        registry.build("partition", "dirichlet")(data, 4, rng)
