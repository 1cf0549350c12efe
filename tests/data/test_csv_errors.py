"""Tables that cannot be used: one line that says where, what, and what would do."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys

import numpy as np
import pytest
from processes import environment
from tables import build, write_csv

from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, run

TABLE = {"x": [1, 2, 3, 4], "kind": ["a", "b", "a", "b"], "y": [0, 1, 0, 1]}


def reason(text):
    with pytest.raises(InputError) as caught:
        build(text)
    assert "\n" not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (
            {"x": [1, "", 3, 4]},
            "",
            "row 1: column 'x' is empty; fill it, leave the row",
        ),
        ({"x": [1, "", 3, 4]}, "", "or leave the column out by naming those to read"),
        ({"kind": ["a", "b", "", "b"]}, "", "row 2: column 'kind' is empty"),
        ({"y": [0, 1, 0, ""]}, "", "row 3: column 'y' is empty; fill it, or leave the"),
        ({"y": ["p", "q", "", "p"]}, "", "row 2: column 'y' is empty"),
        ({"x": [1, 2, "?", 4]}, "", "row 2: column 'x' holds '?'; fill it"),
        ({"x": [1, 2, "NA", 4]}, "", "row 2: column 'x' holds 'NA'; fill it"),
        ({"x": [1, "nan", 3, 4]}, "", "row 1: column 'x' is empty"),
        ({"x": [1, 2, 3, 1e300]}, "", "row 3: column 'x' holds 1e+300, which is too l"),
        ({"y": [0, 1, 0, "NA"]}, "", "row 3: column 'y' holds 'NA'"),
        (
            {"x": list("abcd")},
            ", categories=3",
            "'x' is text with 4 different values, m",
        ),
        (
            {"x": list("abcd")},
            ", categories=3",
            "more than categories=3; leave the col",
        ),
        ({"x": list("abcd")}, ", categories=3", "or take it alone as text=x"),
        (
            {"x": [1, 2, 3, "4 €"]},
            ", categories=3",
            "row 3: column 'x' holds '4 €', wh",
        ),
        (
            {"x": ["2024-01-02"] * 4},
            "",
            "'x' is a time (date32[day]), which is no feat",
        ),
        (
            {"who": ["a", "b", "", "b"]},
            ", client=who",
            "row 2: column 'who' is empty, b",
        ),
        ({"t": [0, 1, 2, 0]}, ", test_column=t", "'t' holds 2, but must be"),
        (
            {"t": list("abab")},
            ", test_column=t",
            "'t' holds a, b, but must hold 1, true",
        ),
        ({"w": [1, -1, 1, 1]}, ", weights=w", "weights must not be negative"),
        (
            {"y": list("pqrs")},
            ", target=number",
            "label 'y' is text, which makes class",
        ),
        (
            {"y": [0, 1, 0, 5000]},
            "",
            "largest label is 5000, more than there are labels",
        ),
        ({}, ", features=z", "has no column 'z'; it has x, kind, y"),
        ({}, ", features=(x, kid)", "has no column 'kid'; did you mean 'kind'?"),
        ({}, ", text=kind, features=x", "give text or features, not both"),
        ({}, ", text=y", "text and label both name 'y'"),
        ({}, ", length=0", "length and categories must be at least 1"),
        ({}, ", delimiter=comma", "delimiter must be auto, tab or a character"),
        ({}, ", delimiter=';'", "has no column 'y'; it has x,kind,y"),
        ({}, ", test=b, test_column=x", "give test or test_column, not both"),
        ({}, ", text=kind, target=sequence", "target cannot be 'sequence'"),
    ],
)
def test_a_table_that_cannot_be_used(change, options, said, tmp_path):
    path = write_csv(tmp_path / "a.csv", TABLE | change)
    assert said in reason(f"csv('{path}', y{options})")


def test_no_label_or_nothing_else(tmp_path):
    path = write_csv(tmp_path / "a.csv", TABLE)
    wanted = "say which column to predict, label=NAME; "
    assert wanted in (found := reason(f"csv('{path}')"))
    assert found.endswith("has x, kind, y")
    assert "no column left for features" in reason(f"csv('{path}', (x, kind, y))")
    assert "no row of 'kind' has two tokens" in reason(f"csv('{path}', text=kind)")
    assert "needs a label" in reason(f"csv('{path}', text=kind, target=number)")


def test_a_class_that_no_training_row_has(tmp_path):
    rows = {"x": [1, 2, 3, 4], "y": list("abca")}
    first = write_csv(tmp_path / "a.csv", rows)
    second = write_csv(tmp_path / "b.csv", rows | {"y": list("aabd")})
    said = "b.csv, row 3: label 'd' is that of no training row; they have a, b, c"
    assert said in reason(f"csv('{first}', y, test='{second}')")
    path = write_csv(tmp_path / "a.csv", rows | {"t": [0, 1, 0, 0]})
    said = "a.csv, row 1: label 'b' is that of no training row; they have a, c"
    assert said in reason(f"csv('{path}', y, test_column=t)")


def test_a_row_is_named_in_its_own_file(tmp_path):
    write_csv(tmp_path / "a.csv", TABLE)
    write_csv(tmp_path / "b.csv", TABLE | {"x": [1, 2, "", 4]})
    assert "b.csv, row 2: column 'x' is empty" in reason(f"csv('{tmp_path}', y)")
    write_csv(tmp_path / "b.csv", TABLE | {"z": [1] * 4})
    assert "must have the same columns; only one has z" in reason(
        f"csv('{tmp_path}', y)"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no CSV: it is empty"),
        (b"x,y\n", "no rows"),
        (b"x,y\n1,2\n3\n", "a.csv cannot be read: CSV parse error: Row #3: Expected 2"),
        (b"x,x,y\n1,2,0\n", "a.csv has two columns 'x'; rename one"),
        (
            b"5.1,3.5,0\n4.9,3.0,1\n",
            "the first line holds numbers (5.1, 3.5, 0); write",
        ),
        (
            b"x,y\n\xe9t\xe9,0\nb,1\n",
            "'x' is bytes (binary), or text that is not UTF-8",
        ),
        (b"\xe9,y\n1,0\n2,1\n", "is not UTF-8; save it as UTF-8"),
        ("x,y\n1,0\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b'[{"x": 1}]', "is no CSV: it looks like JSON"),
        (gzip.compress(bytes(99), mtime=0), "is no CSV: what is packed in it is none"),
        (gzip.compress(b"x,y\n1,2\n" * 99, mtime=0)[:-9], "cannot be read: "),
    ],
)
def test_a_file_that_is_no_table(content, said, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    assert said in reason(f"csv('{tmp_path}/a.csv', y)")


def test_folders_and_paths(tmp_path):
    assert "has no *.csv or " in (found := reason(f"csv('{tmp_path}', y)"))
    assert "it holds nothing" in found
    assert "does not exist" in reason(f"csv('{tmp_path}/a.csv', y)")
    (tmp_path / "rows.arrow").touch()
    assert "has no *.parquet" in (found := reason(f"parquet('{tmp_path}', y)"))
    assert "it holds rows.arrow; name files with path=..." in found
    path = tmp_path / "test.csv"
    write_csv(path, TABLE)
    write_csv(tmp_path / "valid.csv", TABLE)
    assert "if one name says train, " in reason(f"csv('{tmp_path}', y)")
    write_csv(tmp_path / "train.csv", TABLE)
    said = reason(f"csv('{path}', y, test='{tmp_path}')")
    assert "holds both parts; give it as path" in said
    said = reason(f"csv(('{path}', '{tmp_path}'), y)")
    assert "is a folder; name it alone, or its files" in said


def test_a_wide_table_does_not_make_a_wide_line(tmp_path):
    rows = {f"pixel{i}": [0, 1] for i in range(784)} | {"y": [0, 1]}
    path = write_csv(tmp_path / "a.csv", rows)
    found = reason(f"csv('{path}', Z)")
    assert found.endswith("pixel10, pixel11, ... (785 in all)")


def test_a_run_of_clients_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    rows = {"x": y + rng.normal(0, 0.3, 200), "kind": np.array(["p", "q"])[y], "y": y}
    rows["who"] = rng.integers(0, 6, 200)
    path = write_csv(tmp_path / "a.csv", rows)
    config = Config(
        data=f"csv('{path}', y, client=who)",
        partition="natural",
        cohort=3,
        rounds=2,
        model="logistic",
        uplink="identity",
        downlink="identity",
    )
    summary = run(config, tmp_path / "run", quiet=True)
    assert summary["clients"] == 6
    assert summary["test_accuracy"] > 0.8


def test_neither_pandas_nor_datasets_is_loaded(tmp_path):
    path = write_csv(
        tmp_path / "a.csv", TABLE | {"who": list("abab")}, quoting=csv.QUOTE_ALL
    )
    code = (
        "import sys\n"
        "from fedjax_compress import data\n"
        f"data.csv({path!r}, 'y', client='who')\n"
        "print([m for m in ('pandas', 'datasets', 'PIL') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert found.stderr == ""
    assert found.stdout.strip() == "[]"
