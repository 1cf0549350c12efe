"""Tables of measured clients: units, what is refused, and with which words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedjax_compress import clock
from fedjax_compress.errors import InputError

COLUMNS = {
    "client": ["a", "b"],
    "down": [8, 0.5],
    "up": [2, 0.25],
    "latency": [40, 0],
    "gflops": [10, 1.5],
    "row_ms": [3, 0],
    "active": ["0-10 20-30.5", "5-60"],
    "period": [60, 86400],
}


def csv_of(folder, text, name="phones.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def table_of(columns):
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)])


def parquet_of(folder, columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(folder / "phones.parquet")
    parquet.write_table(pyarrow.table(columns), path)
    return path


def read(path, *options):
    return clock.parse(f"trace({', '.join([repr(path), *options])})")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_in_their_units(tmp_path, kind):
    if kind == "csv":
        path = csv_of(tmp_path, table_of(COLUMNS))
    else:
        path = parquet_of(tmp_path, COLUMNS)
    found = read(path)
    links = [[8e6, 2e6, 0.04], [0.5e6, 0.25e6, 0]]
    np.testing.assert_array_equal(found.network(0, 2), links)
    np.testing.assert_array_equal(found.devices(0, 2), [10e9, 1.5e9])
    np.testing.assert_array_equal(found.rows(0, 2), [0.003, 0])
    np.testing.assert_array_equal(found.activity.starts, [[0, 20], [5, np.inf]])
    np.testing.assert_array_equal(found.activity.ends, [[10, 30.5], [60, np.inf]])
    np.testing.assert_array_equal(found.activity.period, [60, 86400])
    assert not found.activity.pauses
    assert found.chooses


def test_columns_that_are_not_there_take_no_time(tmp_path):
    found = read(csv_of(tmp_path, "gflops\n4\n"))
    np.testing.assert_array_equal(found.devices(3, 1), [4e9])
    assert (found.network, found.rows, found.activity) == (None, None, None)
    assert not found.chooses
    only_latency = read(csv_of(tmp_path, "latency\n250\n"))
    np.testing.assert_array_equal(only_latency.network(0, 1), [[np.inf, np.inf, 0.25]])
    no_latency = read(csv_of(tmp_path, "up,down\n1,2\n"))
    np.testing.assert_array_equal(no_latency.network(0, 1), [[2e6, 1e6, 0]])


def test_what_editors_do_to_a_file_is_no_matter(tmp_path):
    """A byte-order mark, blanks in the head, CRLF, empty lines, quotes."""
    text = '\ufeffup , down,active\r\n1,2,"0-1  2-3"\r\n\r\n 3,4 ,\r\n'
    found = read(csv_of(tmp_path, text))
    np.testing.assert_array_equal(found.network(0, 2)[:, :2], [[2e6, 1e6], [4e6, 3e6]])
    np.testing.assert_array_equal(found.activity.starts, [[0, 2], [math.inf] * 2])


def test_a_trace_is_one_of_several_parts(tmp_path):
    path = csv_of(tmp_path, "gflops\n4\n")
    found = clock.parse(f"network(lte_2012) | trace('{path}') | deadline(5)")
    assert found.devices(0, 1) == [4e9]
    assert found.deadline == 5
    with pytest.raises(InputError, match="devices and trace say the same"):
        clock.parse(f"devices() | trace('{path}')")


def test_the_period_is_the_last_end_where_none_is_given(tmp_path):
    found = read(csv_of(tmp_path, 'active\n0-10\n5-7 8-24\n\n""\n')).activity
    np.testing.assert_array_equal(found.period, [24, 24, 24, 24])
    there = found.active(np.arange(4), 24)
    np.testing.assert_array_equal(there, [True, False, True, True])
    always = read(csv_of(tmp_path, "up,down,active\n1,1,\n")).activity
    assert always.active(np.zeros(1, int), 1e7) == [True]


def test_intervals_that_touch_are_one(tmp_path):
    found = read(csv_of(tmp_path, "active\n0-5 5-10 10-20\n")).activity
    assert list(found.starts[0]) == [0]
    assert list(found.stays(np.zeros(1, int), 3)) == [math.inf]


@pytest.mark.parametrize(
    "text", ["0-1e1 2.5e+1-30.", "0.0-10 25-3e1", "00-10 25.-30", ".0-10 250e-1-30"]
)
def test_numbers_of_intervals_as_people_write_them(tmp_path, text):
    found = read(csv_of(tmp_path, f"active\n{text}\n")).activity
    np.testing.assert_array_equal(found.starts, [[0, 25]])
    np.testing.assert_array_equal(found.ends, [[10, 30]])


def test_who_is_away_loses_its_work_or_pauses_or_it_is_ignored(tmp_path):
    path = csv_of(tmp_path, "active,period\n0-10,60\n")
    ids, need = np.zeros(1, int), np.array([12.0])
    for away, end in (("lost", math.inf), ("pauses", 62)):
        found = read(path, f"away={away}").activity
        assert found.finish(ids, 0, need) == [end]
    assert read(path, "away=ignored").activity is None


def test_too_few_clients_are_refused_or_begin_again(tmp_path):
    path = csv_of(tmp_path, table_of(COLUMNS))
    found, again = read(path), read(path, "repeat=true")
    for name in ("network", "devices", "rows"):
        message = r"phones.csv has 2 clients and the run 3; give more rows, or repeat"
        with pytest.raises(InputError, match=message):
            getattr(found, name)(0, 3)
        drawn = getattr(again, name)(0, 5)
        np.testing.assert_array_equal(drawn, drawn[[0, 1, 0, 1, 0]])
        assert len(getattr(found, name)(0, 1)) == 1
    with pytest.raises(InputError, match="has 2 clients and the run 3; give more"):
        found.activity.check(3)
    found.activity.check(2)
    again.activity.check(3)
    assert again.activity.next_with(np.arange(3), 3, 1) == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("up\n1\n", "has one of the columns down and up; give both"),
        ("up,down\n1\n", "line 2: 1 values in 2 columns"),
        ("up,down\n\n1,2\n1,2,3\n", "line 4: 3 values in 2 columns"),
        ("up,down\n", "has no rows"),
        ("", "has none of the columns down, up, latency, gflops, row_ms, period"),
        ("client\na\n", "has none of the columns"),
        ("gflop\n1\n", "has an unknown column 'gflop'; did you mean 'gflops'?"),
        ("gflops,gflops\n1,2\n", "has two columns 'gflops'"),
        ("gflops,note\n1,x\n", "has an unknown column 'note'"),
        ("gflops\nfast\n", "gflops must be numbers, not 'fast'"),
        ("gflops,row_ms\n,1\n", "gflops must be numbers, not ''"),
        ("gflops\n1\n0\n", "gflops must be above 0, not 0 (client 1)"),
        ("gflops\n-1\n", "gflops must be above 0, not -1 (client 0)"),
        ("gflops\nnan\n", "gflops must be above 0, not nan (client 0)"),
        ("down,up\n1,0\n", "up must be above 0, not 0 (client 0)"),
        ("latency\n-1\n", "latency must be at least 0, not -1 (client 0)"),
        ("latency\ninf\n", "latency must be at least 0 and finite, not inf (client 0)"),
        ("row_ms\n-1\n", "row_ms must be at least 0, not -1 (client 0)"),
        ("active,period\n0-1,0\n", "period must be above 0, not 0 (client 0)"),
        ("active,period\n0-1,inf\n", "period must be above 0 and finite, not inf"),
        ("active,period\n0-1,day\n", "period must be numbers, not 'day'"),
        (
            "active,period\n0-1,9\n0-9.5,9\n",
            "client 1 is active until 9.5, after its period of 9 seconds",
        ),
        ("active\n0-1 3\n", "active of client 0 must be intervals in seconds, as in"),
        ("active\n0-1\n-1-3\n", "active of client 1 must be intervals in seconds, as"),
        ("active\n1..2-3\n", "must be intervals in seconds, as in 0-3600 7200-9000"),
        ("active\n1e5e-9e9\n", "not '1e5e-9e9'"),
        ("active\nalways\n", "not 'always'"),
        ("active\n5-5\n", "intervals must rise and not overlap, and 5-5 does not"),
        ("active\n7-5\n", "and 7-5 does not"),
        ("active\n0-5 4-9\n", "and 4-9 does not"),
        ("active\n5-9 0-4\n", "and 0-4 does not"),
        ("active\n0-1e999\n", "and 0-1e999 does not"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(tmp_path, text, reason):
    with pytest.raises(InputError) as caught:
        clock.trace(csv_of(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "phones.csv" in str(caught.value)
    assert reason in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "odd.csv").write_bytes(b"gflops\n\xff\xfe\n")
    (tmp_path / "phones.parquet").write_text("gflops\n1\n")
    (tmp_path / "folder.csv").mkdir()
    for name, reason in {
        "none.csv": "there is no file",
        "folder.csv": "there is no file",
        "odd.csv": "cannot be read as CSV: .* invalid start byte",
        "phones.parquet": "cannot be read as Parquet",
    }.items():
        with pytest.raises(InputError, match=f"{name}.*{reason}|{reason}.*{name}"):
            clock.trace(str(tmp_path / name))
    with pytest.raises(InputError, match=r"must end in \.csv or \.parquet"):
        clock.trace(csv_of(tmp_path, "gflops\n1\n", "phones.txt"))


def test_a_parquet_file_that_lacks_values(tmp_path):
    """A missing number is refused; a missing text is a client that is always there."""
    path = parquet_of(tmp_path, {"gflops": [1.0, None]})
    with pytest.raises(InputError, match="gflops must be numbers, not None"):
        clock.trace(path)
    path = parquet_of(tmp_path, {"active": ["0-1", None], "period": [4.0, 4.0]})
    np.testing.assert_array_equal(
        read(path).activity.active(np.arange(2), 3), [False, True]
    )
    with pytest.raises(InputError, match="unknown column 'upp'; did you mean 'up'"):
        clock.trace(parquet_of(tmp_path, {"upp": [1]}))
    with pytest.raises(InputError, match="has no rows"):
        clock.trace(parquet_of(tmp_path, {"gflops": []}))


def test_a_trace_of_many_clients_is_read(tmp_path):
    """100,000."""
    head = "down,up,row_ms,active,period\n"
    rows = (
        f"{1 + i % 9},2,1.5,{i % 50}-{i % 50 + 9} 70-90,100" for i in range(100_000)
    )
    found = read(csv_of(tmp_path, head + "\n".join(rows)))
    ids = np.arange(100_000)
    np.testing.assert_array_equal(found.network(0, 100_000)[:, 0], 1e6 * (1 + ids % 9))
    np.testing.assert_array_equal(found.activity.active(ids, 205), ids % 50 <= 5)
    assert found.activity.next_with(ids, 100_000, 100) == 170


def test_a_column_of_clients_is_in_order_and_blank_values_are_values(tmp_path):
    path = csv_of(tmp_path, "client,gflops\n0,1\n1,2\n", "named.csv")
    assert clock.trace(path)["devices"](0, 2).tolist() == [1e9, 2e9]
    path = csv_of(tmp_path, "client,gflops\n1,1\n0,2\n", "turned.csv")
    with pytest.raises(
        InputError, match="row 0 is client 0, and its column client says"
    ):
        clock.trace(path)
    path = csv_of(tmp_path, "active\n0-5\n\n5-9\n", "gaps.csv")
    found = clock.trace(path)["activity"]
    assert found.active(np.arange(3), 2.0).tolist() == [True, True, False]


def test_a_value_of_many_intervals_is_read(tmp_path):
    many = " ".join(f"{2 * i}-{2 * i + 1}" for i in range(30_000))
    found = clock.trace(csv_of(tmp_path, f"active\n{many}\n", "many.csv"))["activity"]
    assert found.active(np.zeros(1, int), 59_998.5).tolist() == [True]
