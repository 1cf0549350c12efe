"""Tables of Parquet and Arrow, as pyarrow writes them, beside npz and csv."""

from __future__ import annotations

import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import feather, ipc, parquet
from tables import build, same, write_csv

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

ROWS = 30


@pytest.fixture
def columns():
    rng = np.random.default_rng(6)
    return {
        "age": rng.integers(18, 90, ROWS),
        "job": np.array(["smith", "cook"])[rng.integers(0, 2, ROWS)],
        "height": rng.normal(1.7, 0.1, ROWS),
        "member": rng.integers(0, 2, ROWS).astype(bool),
        "grade": np.array(["low", "mid", "top"])[np.arange(ROWS) % 3],
        "who": rng.integers(0, 4, ROWS) * 100,
    }


def write_parquet(path, table):
    parquet.write_table(table if isinstance(table, pa.Table) else pa.table(table), path)
    return str(path)


def write_stream(path, table):
    with ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return str(path)


def write_feather(path, table):
    feather.write_feather(table, str(path))
    return str(path)


@pytest.mark.parametrize("write", [write_parquet, write_stream, write_feather])
def test_the_same_rows_as_csv_give_the_same_data(write, columns, tmp_path):
    path = write(tmp_path / "a.arrow", pa.table(columns))
    wanted = build(
        f"csv('{write_csv(tmp_path / 'a.csv', columns)}', grade, client=who)"
    )
    same(build(f"parquet('{path}', grade, client=who)"), wanted)
    assert wanted.task == Task((5,), 3, scale=1.0)


def test_categories_and_other_types_of_numbers(columns, tmp_path):
    wanted = build(
        f"csv('{write_csv(tmp_path / 'a.csv', columns)}', grade, client=who)"
    )
    table = pa.table(
        {
            "age": pa.array(map(Decimal, columns["age"].tolist()), pa.decimal128(5, 2)),
            "job": pa.array(columns["job"]).dictionary_encode(),
            "height": pa.array(columns["height"]),
            "member": pa.array(columns["member"]).cast(pa.uint8()),
            "grade": pa.array(columns["grade"]).cast(pa.large_string()),
            "who": pa.array(columns["who"]).cast(pa.timestamp("s")),
            "__index_level_0__": pa.array(range(ROWS)),
        }
    )
    path = write_parquet(tmp_path / "a.parquet", table)
    same(build(f"parquet('{path}', grade, client=who)"), wanted)


def test_columns_of_bytes_stay_bytes(columns, tmp_path):
    table = pa.table(
        {"a": np.arange(ROWS, dtype=np.uint8), "b": np.zeros(ROWS, np.uint8)}
        | {"y": columns["who"] // 100}
    )
    found = build(f"parquet('{write_parquet(tmp_path / 'a', table)}', y)")
    np.savez(
        tmp_path / "a.npz",
        x=np.stack([table["a"], table["b"]], axis=1),
        y=columns["who"] // 100,
    )
    assert found.train["features"].dtype == np.uint8
    same(found, build(f"npz('{tmp_path}/a.npz', x, y)"))


def fixed(array, kind):
    """Lists of a fixed size, within each other."""
    column = pa.array(array.reshape(-1), kind)
    for size in array.shape[:0:-1]:
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


@pytest.mark.parametrize("way", ["lists", "fixed", "tensor"])
@pytest.mark.parametrize("kind", ["uint8", "int64", "float32", "float64"])
def test_arrays_are_those_of_npz(way, kind, tmp_path):
    array = np.random.default_rng(1).integers(0, 256, (ROWS, 4, 5)).astype(kind)
    column = {
        "lists": lambda: pa.array(
            array.tolist(), pa.list_(pa.list_(pa.from_numpy_dtype(kind)))
        ),
        "fixed": lambda: fixed(array, pa.from_numpy_dtype(kind)),
        "tensor": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(array),
    }[way]()
    y = np.arange(ROWS) % 3
    table = pa.table({"pixels": column, "y": y})
    path = write_parquet(tmp_path / "a.parquet", table)
    np.savez(tmp_path / "a.npz", images=array, labels=y)
    same(build(f"parquet('{path}', y)"), build(f"npz('{tmp_path}/a.npz')"))


def test_shards_of_a_folder_and_labels_for_each_pixel(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (ROWS, 4, 5)).astype(np.uint8)
    labels = (pixels > 99).astype(np.int64)
    table = pa.table({"x": fixed(pixels, pa.uint8()), "y": fixed(labels, pa.int64())})
    (tmp_path / "shards").mkdir()
    for i in range(3):
        write_parquet(tmp_path / "shards" / f"{i}.parquet", table.slice(10 * i, 10))
    np.savez(tmp_path / "a.npz", images=pixels, labels=labels)
    wanted = build(f"npz('{tmp_path}/a.npz')")
    same(build(f"parquet('{tmp_path}/shards', y)"), wanted)
    assert wanted.task.predicts == "positions"


def picture(shape, kind, mode=None):
    pixels = np.random.default_rng(len(shape)).integers(0, 256, shape).astype(np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


def table_of(*pictures):
    column = [{"bytes": data, "path": None} for data in pictures]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.table({"x": pa.array(column, kind), "y": np.arange(len(pictures)) % 2})


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_in_colour(kind, tmp_path):
    files = [picture((8, 9, 3), kind) for _ in range(4)]
    path = write_parquet(tmp_path / "a.parquet", table_of(*files))
    found = build(f"parquet('{path}', y, test='{path}')")
    assert found.task == Task((8, 9, 3), 2, scale=255.0)
    with Image.open(io.BytesIO(files[1])) as opened:
        np.testing.assert_array_equal(found.train["features"][1], np.asarray(opened))


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (
            picture((8, 8, 3), "PNG"),
            r"has shape \(8, 8, 3\), but the first .*\(8, 9, 3\)",
        ),
        (picture((8, 9), "PNG"), r"has shape \(8, 9, 1\)"),
        (picture((8, 9, 3), "BMP"), "holds no picture: PNG and JPEG are read"),
        (picture((8, 9, 3), "PNG")[:60], "holds no picture"),
        (picture((8, 9), "PNG", "I;16"), "has pixels of the kind I;16"),
        (None, "has a path but no picture"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(second, reason, tmp_path):
    table = table_of(picture((8, 9, 3), "PNG"), second)
    path = write_parquet(tmp_path / "a.parquet", table)
    with pytest.raises(InputError, match=rf"a\.parquet, row 1: column 'x' {reason}"):
        build(f"parquet('{path}', y)")


@pytest.mark.parametrize(
    ("columns", "options", "reason"),
    [
        (
            {"x": [[1, 2], [3]]},
            "",
            r"row 1: column 'x' has a list of 1, where the first",
        ),
        ({"x": [[1, 2], [3, None]]}, "", r"row 1: column 'x' holds an empty value"),
        ({"x": [[[1], [2]], [[3], None]]}, "", r"row 1: column 'x' holds an empty"),
        ({"x": [[1], None]}, "", r"row 1: column 'x' is empty; fill it"),
        ({"x": [1.0, float("nan")]}, "", r"row 1: column 'x' is empty; fill it"),
        (
            {"x": [1.0, float("inf")]},
            "",
            r"row 1: column 'x' holds inf, which is not f",
        ),
        (
            {"x": [1.0, -1e39]},
            "",
            r"row 1: column 'x' holds -1e\+39, which is too large",
        ),
        ({"x": [["a"], ["b"]]}, "", "row 0: column 'x' holds lists of string"),
        ({"x": [b"a", b"b"]}, "", r"column 'x' is bytes \(binary\).*is no feature"),
        ({"x": [{"a": 1}, {"a": 2}]}, ", features='x.b'", "mean 'x.a'"),
        ({"x": [1, 2], "t": [[-1], [2]]}, ", text=t", "row 0: column 't' holds tokens"),
        ({"x": [1, 2]}, ", text=x", "column 'x' is int64; text must be text, or lists"),
        (
            {"x": [1, 2], "who": [1, None]},
            ", client=who",
            "row 1: column 'who' is empty",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(columns, options, reason, tmp_path):
    path = write_parquet(tmp_path / "a.parquet", columns | {"y": [0, 1]})
    with pytest.raises(InputError, match=reason) as caught:
        build(f"parquet('{path}', y{options})")
    assert "\n" not in caught.value.reason


def test_a_test_row_may_be_of_nobody(tmp_path):
    rows = {"x": [1, 2, 3, 4], "y": [0, 1, 0, 1], "t": [False, False, True, True]}
    for who in ([7, 5, 5, None], ["b", "a", "a", None]):
        path = write_parquet(tmp_path / "a.parquet", rows | {"who": who})
        found = build(f"parquet('{path}', y, client=who, test_column=t)")
        assert found.train_clients.tolist() == [1, 0]
        assert found.test_clients.tolist() == [0, -1]


def test_shards_that_differ(tmp_path):
    write_parquet(tmp_path / "a.parquet", {"x": [1, 2], "y": [0, 1]})
    for other, reason in (
        ({"x": ["a"], "y": [1]}, "files differ: .*int64 vs string"),
        ({"x": [1], "z": [1]}, "must have the same columns in all files"),
    ):
        write_parquet(tmp_path / "b.parquet", other)
        with pytest.raises(InputError, match=reason):
            build(f"parquet('{tmp_path}', y)")


def test_damage(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"x": [1, 2], "y": [0, 1]})
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"is damaged or not whole: .*; save it again"):
        build(f"parquet('{path}', y)")
