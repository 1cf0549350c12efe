"""Tables of text: the same rows give the same data as npz, however they are written."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip

import numpy as np
import pytest
from tables import build, same, write_csv

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

ROWS = 60
JOBS = np.array(["cook", "smith", "tailor, retired"])


@pytest.fixture
def columns():
    rng = np.random.default_rng(4)
    return {
        "age": rng.integers(18, 90, ROWS),
        "job": JOBS[rng.integers(0, 3, ROWS)],
        "height": rng.normal(1.7, 0.1, ROWS),
        "member": rng.integers(0, 2, ROWS).astype(bool),
        "grade": np.arange(ROWS) % 3,
        "who": np.array(["zoe", "ann", "bob"])[np.arange(ROWS) // 20],
    }


def as_npz(folder, columns, name="rows", labels="grade", **more):
    """The features as they should be, made by hand, in a file that npz reads."""
    x = np.empty((len(columns["age"]), 6), np.float32)
    x[:, 0] = columns["age"]
    for i, job in enumerate(JOBS):  # which are sorted
        x[:, 1 + i] = columns["job"] == job
    x[:, 4] = columns["height"]
    x[:, 5] = columns["member"]
    path = folder / f"{name}.npz"
    np.savez(path, x=x, y=columns[labels], who=columns["who"], **more)
    return f"npz('{path}', x, y"


@pytest.mark.parametrize("ids", [None, "who"])
def test_a_table_is_what_npz_makes_of_its_numbers(columns, ids, tmp_path):
    if ids is None:
        del columns["who"]
    path = write_csv(tmp_path / "rows.csv", columns)
    wanted = as_npz(tmp_path, columns | {"who": columns.get("who", [])})
    client = f", client={ids}" if ids else ""
    found = build(f"csv('{path}', grade{client}, holdout=0.2)")
    assert found.task == Task((6,), 3, scale=1.0)
    assert found.own_clients == (3 if ids else 0)
    same(found, build(f"{wanted}{client}, holdout=0.2)"))


def test_marked_rows_and_weights(columns, tmp_path):
    columns |= {"is_test": np.arange(ROWS) % 5 == 0, "counts": np.arange(ROWS) / 4}
    rest = {"is_test": columns["is_test"], "counts": columns["counts"]}
    options = ", client=who, test_column=is_test, weights=counts)"
    wanted = build(as_npz(tmp_path, columns, **rest) + options)
    path = write_csv(tmp_path / "rows.csv", columns)
    same(build(f"csv('{path}', grade{options}"), wanted)
    columns["is_test"] = np.where(columns["is_test"], "test", "train")
    path = write_csv(tmp_path / "rows.csv", columns)
    same(build(f"csv('{path}', grade{options}"), wanted)


def test_a_second_file_is_numbered_as_the_first(columns, tmp_path):
    first = write_csv(tmp_path / "a.csv", columns)
    half = {name: column[10:50:3].copy() for name, column in columns.items()}
    half["job"][:] = "smith"
    half["who"][:3] = "a stranger"
    backwards = dict(reversed(half.items()))
    second = write_csv(tmp_path / "b.csv", backwards)
    wanted = as_npz(tmp_path, columns) + ", client=who"
    as_npz(tmp_path, half, "half")
    found = build(f"csv('{first}', grade, client=who, test='{second}')")
    same(found, build(f"{wanted}, test='{tmp_path}/half.npz')"))
    assert found.test_clients.tolist()[:4] == [-1, -1, -1, 2]
    del half["who"]
    second = write_csv(tmp_path / "b.csv", half)
    found = build(f"csv('{first}', grade, client=who, test='{second}')")
    assert found.test_clients is None


def test_a_value_of_the_test_part_alone_has_a_number_of_its_own(tmp_path):
    """In both parts, in sorted order of all: else columns would not mean the same."""
    train = {"job": np.array(["smith", "cook"]), "grade": np.array([0, 1])}
    test = {"job": np.array(["dyer", "smith"]), "grade": np.array([1, 0])}
    paths = [
        write_csv(tmp_path / f"{name}.csv", columns)
        for name, columns in (("train", train), ("other", test))
    ]
    found = build(f"csv('{paths[0]}', grade, test='{paths[1]}')")
    assert found.train["features"].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert found.test["features"].tolist() == [[0, 1, 0], [0, 0, 1]]


def test_text_makes_classes_in_sorted_order_the_same_in_a_second_file(tmp_path):
    names = ["owl", "Ant", "émeu", "bee"]
    first = {"x": range(8), "y": names * 2}
    path = write_csv(tmp_path / "a.csv", first)
    test = write_csv(tmp_path / "b.csv", {"x": [9, 7], "y": ["owl", "bee"]})
    found = build(f"csv('{path}', y, test='{test}')")
    assert found.task.classes == 4
    assert found.train["labels"].tolist() == [2, 0, 3, 1] * 2
    assert found.test["labels"].tolist() == [2, 1]
    numbers = write_csv(tmp_path / "a.csv", first | {"y": ["7", "x", "08", "9"] * 2})
    test = write_csv(tmp_path / "b.csv", {"x": [9, 7], "y": ["9", "08"]})
    assert build(f"csv('{numbers}', y, test='{test}')").test["labels"].tolist() == [
        2,
        0,
    ]


@pytest.mark.parametrize(
    ("labels", "options", "task"),
    [
        ([1.5, 2, 0.25, 4], "", Task((1,), 1, scale=1.0, target="number")),
        ([1, 2, 0, 4], "", Task((1,), 5, scale=1.0)),
        ([1.0, 2.0, 0.0, 4.0], ", classes=7", Task((1,), 7, scale=1.0)),
        ([1, 2, 0, 4], ", target=number", Task((1,), 1, scale=1.0, target="number")),
        (["true", "false"] * 2, "", Task((1,), 2, scale=1.0)),
    ],
)
def test_what_labels_are(labels, options, task, tmp_path):
    path = write_csv(tmp_path / "a.csv", {"x": range(4), "y": labels})
    found = build(f"csv('{path}', y, test='{path}'{options})")
    assert found.task == task
    wanted = [{"true": 1, "false": 0}.get(y, y) for y in labels]
    assert found.train["labels"].tolist() == wanted


def test_several_columns_of_labels(columns, tmp_path):
    columns |= {"a": np.arange(ROWS) % 2, "b": np.arange(ROWS) // 30}
    path = write_csv(tmp_path / "a.csv", columns)
    found = build(f"csv('{path}', (a, b), features=age, target=several)")
    assert found.task == Task((1,), 2, scale=1.0, target="several")
    rows = np.stack([columns["age"], columns["a"], columns["b"]], axis=1)
    parts = [np.c_[p["features"], p["labels"]] for p in (found.train, found.test)]
    both = np.concatenate(parts)
    np.testing.assert_array_equal(both[np.lexsort(both.T)], rows[np.lexsort(rows.T)])


def day(i):
    return (datetime.date(2024, 2, 27) + datetime.timedelta(i)).isoformat()


@pytest.mark.parametrize(
    "name",
    [
        day,
        lambda i: f"{day(i)} 10:00:0{i}",
        lambda i: f"{i}.5",  # a house number, say: no float
        lambda i: 2**60 + i,
        lambda i: f"{2**64 + i}",
        lambda i: ["c", "7", "08", "7a"][i],
        lambda i: 100 * i,
        lambda i: [3, 1, 2, 0][i],
    ],
)
def test_ids_of_any_type(name, tmp_path):
    ids = [name(i % 4) for i in range(12)]
    path = write_csv(tmp_path / "a.csv", {"x": range(12), "y": [0, 1] * 6, "who": ids})
    found = build(f"csv('{path}', y, client=who, test='{path}')")
    order = np.unique(ids, return_inverse=True)[1]
    assert found.train_clients.tolist() == order.tolist()
    assert found.test_clients.tolist() == order.tolist()


@pytest.mark.parametrize(
    ("dialect", "options"),
    [
        ({"delimiter": ";"}, ""),
        ({"delimiter": "\t"}, ""),
        ({"delimiter": "\t"}, ", delimiter=tab"),
        ({"delimiter": "|"}, ", delimiter='|'"),
        ({"quoting": csv.QUOTE_ALL}, ""),
        ({"lineterminator": "\n"}, ""),
    ],
)
def test_other_ways_of_writing(dialect, options, columns, tmp_path):
    wanted = build(f"csv('{write_csv(tmp_path / 'a.csv', columns)}', grade)")
    path = write_csv(tmp_path / "b.csv", columns, **dialect)
    same(build(f"csv('{path}', grade{options})"), wanted)


def test_commas_for_points_a_mark_at_the_start_and_an_index(columns, tmp_path):
    wanted = build(f"csv('{write_csv(tmp_path / 'a.csv', columns)}', grade)")
    columns = {"": range(ROWS), **columns}
    columns["height"] = [str(x).replace(".", ",") for x in columns["height"]]
    path = write_csv(tmp_path / "b.csv", columns, delimiter=";")
    (tmp_path / "b.csv").write_bytes(
        b"\xef\xbb\xbf" + (tmp_path / "b.csv").read_bytes()
    )
    same(build(f"csv('{path}', grade)"), wanted)


@pytest.mark.parametrize(
    ("pack", "ending"), [(gzip, "csv.gz"), (bz2, "csv"), (gzip, "x")]
)
def test_compressed_files(pack, ending, columns, tmp_path):
    path = tmp_path / "a.csv"
    wanted = build(f"csv('{write_csv(path, columns)}', grade)")
    packed = tmp_path / f"packed.{ending}"
    packed.write_bytes(pack.compress(path.read_bytes()))
    same(build(f"csv('{packed}', grade)"), wanted)


def test_several_files_and_folders(columns, tmp_path):
    wanted = build(
        f"csv('{write_csv(tmp_path / 'a.csv', columns)}', grade, client=who)"
    )
    folder = tmp_path / "shards"
    folder.mkdir()
    paths = []
    for i in range(3):
        rows = slice(20 * i, 20 * i + 20)
        part = {name: column[rows] for name, column in columns.items()}
        if i == 1:
            part["height"] = part["height"].round()  # whole numbers in this file
            columns["height"][rows] = part["height"]
            part["height"] = part["height"].astype(int)
        paths.append(write_csv(folder / f"{i}.csv", part))
    wanted = build(
        f"csv('{write_csv(tmp_path / 'a.csv', columns)}', grade, client=who)"
    )
    (folder / "notes.txt").write_text("about the data")
    same(build(f"csv('{folder}', grade, client=who)"), wanted)
    same(build(f"csv({tuple(paths)}, grade, client=who)"), wanted)


def test_a_folder_whose_names_say_the_parts(columns, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    train = write_csv(folder / "train.csv", columns)
    half = {name: column[::2] for name, column in columns.items()}
    test = write_csv(folder / "test.csv", half)
    write_csv(folder / "Validation.csv", half)
    wanted = build(f"csv('{train}', grade, client=who, test='{test}')")
    same(build(f"csv('{folder}', grade, client=who)"), wanted)
    (tmp_path / "other").mkdir()
    write_csv(tmp_path / "other" / "test-1.csv", half)
    only = f"csv('{train}', grade, client=who, test='{tmp_path / 'other'}')"
    same(build(only), wanted)
    write_csv(folder / "more.csv", half)
    with pytest.raises(InputError, match="if one name says train, test or v"):
        build(f"csv('{folder}', grade)")


TEXTS = ["", "né en 1966", "a line\nand another", "🦉", "x" * 9] * 4


def test_text_is_bytes_and_zeros(tmp_path):
    rows = {"said": TEXTS, "y": [0, 1] * 10, "who": ["a"] * 10 + ["b"] * 10}
    path = write_csv(tmp_path / "a.csv", rows, quoting=csv.QUOTE_ALL)
    options = ", text=said, length=7, client=who)"
    found = build(f"csv('{path}', y{options}")
    assert found.task == Task((7,), 2, tokens=True, target="class")
    x = np.zeros((20, 7), np.int32)
    for row, text in zip(x, TEXTS, strict=True):
        said = text.encode()[:7]
        row[: len(said)] = [1 + byte for byte in said]
    np.savez(tmp_path / "a.npz", x=x, y=rows["y"], who=rows["who"])
    tokens = f"npz('{tmp_path}/a.npz', x, y, client=who, tokens=true, target=class)"
    same(found, build(tokens))
    shorter = build(f"csv('{path}', y, text=said)")
    assert shorter.task.shape == (len(TEXTS[2].encode()),)  # the longest


def test_without_a_label_the_next_byte_is_predicted(tmp_path):
    path = write_csv(tmp_path / "a.csv", {"said": TEXTS}, quoting=csv.QUOTE_ALL)
    found = build(f"csv('{path}', text=said, length=7, test='{path}')")
    assert found.task == Task((7,), 257, tokens=True)
    for row, label, text in zip(
        found.train["features"], found.train["labels"], TEXTS, strict=True
    ):
        codes = [1 + byte for byte in text.encode()[:8]] + [0] * 8
        assert row.tolist() == codes[:7]
        assert label.tolist() == codes[1:8]
