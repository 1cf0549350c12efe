"""A user's own arrays: with and without ids, three ways to a test part, bad files."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.data.ids import number_clients
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

ROWS = 60


@pytest.fixture
def columns():
    rng = np.random.default_rng(2)
    return {
        "images": rng.integers(0, 256, (ROWS, 4, 5), np.uint8),
        "labels": (np.arange(ROWS) % 3).astype(np.uint8),
        "writers": np.array([100, 7, 30])[np.arange(ROWS) // 20],
        "is_test": np.arange(ROWS) % 6 == 0,
    }


@pytest.fixture
def save(tmp_path):
    def write(columns, name="rows.npz"):
        np.savez(tmp_path / name, **columns)
        return str(tmp_path / name)

    return write


def build(path, options=""):
    return registry.build("data", f"npz('{path}'{options})")


def test_pixels_keep_their_type_and_get_an_axis_of_channels(save, columns):
    path = save(columns)
    data = build(path)
    assert data.task == Task((4, 5, 1), 3, scale=255.0)
    assert data.train["features"].dtype == np.uint8
    assert data.train["labels"].dtype == np.int32
    assert data.train_clients is None
    assert len(data.train["labels"]) + len(data.test["labels"]) == ROWS
    both = np.concatenate([data.train["features"], data.test["features"]])[..., 0]
    order = np.lexsort(both.reshape(ROWS, -1).T)
    want = columns["images"]
    np.testing.assert_array_equal(
        both[order], want[np.lexsort(want.reshape(ROWS, -1).T)]
    )


def test_a_share_of_every_class_is_held_out_and_of_every_client_with_ids(save, columns):
    path = save(columns)
    plain = build(path, ", holdout=0.2")
    assert np.bincount(plain.test["labels"]).tolist() == [4, 4, 4]
    by_client = build(path, ", holdout=0.2, client=writers")
    assert np.bincount(by_client.test_clients).tolist() == [4, 4, 4]
    again = build(path, ", holdout=0.2")
    np.testing.assert_array_equal(plain.test["features"], again.test["features"])


def test_ids_with_gaps_are_numbered_in_sorted_order(save, columns):
    data = build(save(columns), ", client=writers, test_column=is_test")
    held = columns["is_test"]
    want = np.array([2, 0, 1])[np.arange(ROWS) // 20]  # 100, 7, 30 -> 2, 0, 1
    np.testing.assert_array_equal(data.train_clients, want[~held])
    np.testing.assert_array_equal(data.test_clients, want[held])
    np.testing.assert_array_equal(
        data.train["features"][..., 0], columns["images"][~held]
    )
    np.testing.assert_array_equal(data.test["labels"], columns["labels"][held])


def test_ids_may_be_names(save, columns):
    names = np.array(["zoe", "ann", "bob"])[np.arange(ROWS) // 20]
    data = build(save(columns | {"writers": names}), ", client=writers")
    assert np.bincount(data.train_clients).tolist() == [18, 18, 18]
    assert data.train_clients[0] == 2


def test_a_second_file_is_the_test_part(save, columns):
    train = save(columns)
    half = {k: v[::2] for k, v in columns.items()}
    half["writers"] = np.where(half["writers"] == 7, 8, half["writers"])  # a stranger
    test = save(half, "test.npz")
    data = build(train, f", client=writers, test='{test}'")
    assert len(data.train["labels"]) == ROWS
    assert len(data.test["labels"]) == ROWS // 2
    np.testing.assert_array_equal(data.test_clients, np.repeat([2, -1, 1], 10))


def test_strangers_only_or_no_ids_in_the_test_file_give_no_test_clients(save, columns):
    train = save(columns)
    strangers = save(columns | {"writers": columns["writers"] + 1000}, "a.npz")
    assert build(train, f", client=writers, test='{strangers}'").test_clients is None
    without = save({k: columns[k] for k in ("images", "labels")}, "b.npz")
    data = build(train, f", client=writers, test='{without}'")
    assert data.test_clients is None
    assert data.own_clients == 3


@pytest.mark.parametrize(
    ("known", "nobody"),
    [("3", ""), (3, -7), (3.0, -1.0), (3.0, np.nan), (b"3", b"")],
)
def test_a_test_row_may_be_of_nobody(known, nobody):
    train = np.array([known] * 3)
    test = np.array([nobody, known, nobody])
    ids, test_ids = number_clients(train, test, "here")
    np.testing.assert_array_equal(ids, [0, 0, 0])
    np.testing.assert_array_equal(test_ids, [-1, 0, -1])
    with pytest.raises(InputError, match=r"^here: client id.*row 0"):
        number_clients(test, train, "here")


def test_a_test_row_of_a_part_of_a_client_is_refused():
    with pytest.raises(InputError, match=r"id 0\.5 in row 1 is no whole number"):
        number_clients(np.arange(3.0), np.array([np.nan, 0.5]), "here")


def test_names_in_one_part_and_numbers_in_the_other_are_refused(save, columns):
    train = save(columns)
    named = save(columns | {"writers": np.array(["ann"] * ROWS)}, "named.npz")
    with pytest.raises(InputError, match=r"client ids are int64 .*, <U3 in the test"):
        build(train, f", client=writers, test='{named}'")


def test_tables_and_tokens(save, columns):
    table = {"x": np.random.default_rng(0).normal(size=(ROWS, 7)), "y": np.ones(ROWS)}
    data = build(save(table), ", features=x, labels=y, classes=4")
    assert data.task == Task((7,), 4, scale=1.0)
    assert data.train["features"].dtype == np.float32
    assert data.train["labels"].dtype == np.int32
    tokens = {"x": np.full((ROWS, 7), 5), "y": np.full((ROWS, 7), 6)}
    data = build(save(tokens), ", features=x, labels=y, tokens=true")
    assert data.task == Task((7,), 7, tokens=True)
    assert data.train["features"].dtype == np.int32


def test_white_for_black(save, columns):
    path = save(columns)
    plain, inverted = build(path), build(path, ", invert=true")
    for part in ("train", "test"):
        x, y = (getattr(data, part)["features"] for data in (plain, inverted))
        assert y.dtype == np.uint8
        np.testing.assert_array_equal(x.astype(int) + y, 255)
    table = save(columns | {"images": np.ones((ROWS, 2), np.float32)}, "table.npz")
    with pytest.raises(InputError, match="only uint8 pixels can be inverted"):
        build(table, ", invert=true")


def test_colour_images_keep_their_channels(save, columns):
    data = build(save(columns | {"images": np.zeros((ROWS, 4, 5, 3), np.uint8)}))
    assert data.task.shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, ", features=image", "no array 'image'; did you mean 'images'"),
        ({}, ", client=writer", "no array 'writer'; did you mean 'writers'"),
        ({}, ", test='x.npz', test_column=is_test", "test or test_column, not both"),
        ({}, ", test='none.npz'", "'none.npz' does not exist"),
        ({}, ", holdout=0", "share must lie between 0 and 1, not 0.0"),
        ({}, ", classes=2", r"label 2 in row \d+ lies outside 0\.\.1"),
        ({}, ", classes=-2", "classes must be positive"),
        ({"labels": np.zeros(9, int)}, "", "60 rows of features but 9 labels"),
        ({"writers": np.zeros(9)}, ", client=writers", r"shape \(60,\), not \(9,\)"),
        ({"writers": np.zeros((ROWS, 1))}, ", client=writers", r"not \(60, 1\)"),
        ({"is_test": np.zeros(9)}, ", test_column=is_test", r"marks .*, not \(9,\)"),
        ({"images": np.zeros((ROWS, 0))}, "", r"row of features is empty: .*\(60, 0\)"),
        (
            {"images": np.full((ROWS, 2), 1e300)},
            "",
            r"for float32, first row \d \(1e\+300\)",
        ),
        ({"writers": np.arange(ROWS)}, ", client=writers", "no row can be held out"),
        ({"writers": np.arange(ROWS) // 20 - 1}, ", client=writers", "not be negative"),
        ({"writers": np.full(ROWS, 0.5)}, ", client=writers", "id 0.5 in row 0 is no"),
        (
            {"writers": np.arange(ROWS) / 4},
            ", client=writers",
            "id 0.25 in row 1 is no whole number",
        ),
        (
            {"writers": np.full(ROWS, np.inf)},
            ", client=writers",
            "id inf in row 0 is no whole number",
        ),
        ({"writers": np.full(ROWS, "")}, ", client=writers", "id in row 0 is empty"),
        (
            {"writers": np.zeros(ROWS, "M8[D]")},
            ", client=writers",
            "or names, not d",
        ),
        (
            {"is_test": np.arange(ROWS) % 3},
            ", test_column=is_test",
            "holds 2, but m",
        ),
        ({"is_test": np.full(ROWS, np.nan)}, ", test_column=is_test", "holds nan, but"),
        (
            {"is_test": np.array(["train", "test"] * 30)},
            ", test_column=is_test",
            r"holds <U5 \('test', 'train'\), but must be true \(or 1\) for a test row",
        ),
        (
            {"labels": np.full(ROWS, 0.5)},
            ", target=class",
            "label 0.5 in row 0 is no whole number",
        ),
        ({"labels": np.full(ROWS, -1)}, "", r"label -1 in row 0 lies outside"),
        ({"labels": np.array(["a"] * ROWS)}, "", "labels must be integers, not <U1"),
        ({"labels": np.full(ROWS, 10**8)}, "", "largest label is 100000000, more than"),
        ({"labels": np.full(ROWS, 2**40)}, "", "labels must fit 32 bits"),
        ({"images": np.array(["a"] * ROWS)}, "", "features must be numbers"),
        ({"images": np.zeros(ROWS)}, "", r"shape \[rows, ...\], not \(60,\)"),
        ({"images": np.float32(1)}, "", "a single value, not rows"),
        ({"images": np.full((ROWS, 2), np.nan)}, "", "rows have features .* finite"),
        ({"images": np.zeros((ROWS, 2))}, ", tokens=true", "tokens must be integers"),
        ({"images": np.zeros((0, 2)), "labels": np.zeros(0)}, "", "no rows"),
        ({"is_test": np.ones(ROWS, bool)}, ", test_column=is_test", "train part: no r"),
        ({"is_test": np.zeros(ROWS)}, ", test_column=is_test", "test part: no rows"),
        (
            {"writers": np.full(ROWS, np.nan)},
            ", client=writers",
            "client ids must not be NaN",
        ),
        (
            {"images": np.array([None] * ROWS, object)},
            "",
            "array 'images' holds Python objects",
        ),
    ],
)
def test_bad_columns_are_refused_in_one_line(save, columns, change, options, message):
    with pytest.raises(InputError, match=message) as error:
        build(save(columns | change), options)
    assert "\n" not in error.value.reason


def test_files_that_are_none_are_refused(tmp_path, save, columns):
    with pytest.raises(InputError, match="does not exist"):
        build(str(tmp_path / "nothing.npz"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"read as \.npz: it looks like text"):
        build(str(tmp_path / "text.npz"))
    np.save(tmp_path / "bare.npy", np.zeros(3))
    with pytest.raises(InputError, match="one bare array"):
        build(str(tmp_path / "bare.npy"))
    path = save(columns)
    with open(path, "r+b") as file:
        file.seek(200)
        file.write(b"\xff" * 50)
    with pytest.raises(InputError, match="is damaged"):
        build(path)


def test_the_name_is_folder_and_file(save, columns, tmp_path):
    assert build(save(columns)).name == f"{tmp_path.name}/rows"
