"""The command ``partition``: exact figures, a picture, errors of one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedjax_compress.__main__ import main
from fedjax_compress.cli.partitioning import Outputs, show_partition
from fedjax_compress.experiment import Config
from fedjax_compress.experiment.build import deal, load_data

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """Eight rows of three own clients, the same to learn from and to test on."""
    path = tmp_path / "rows.npz"
    np.savez(
        path,
        images=np.zeros((8, 2), np.float32),
        labels=np.array([0, 0, 0, 1, 0, 0, 1, 1], np.int32),
        who=np.array([5, 5, 5, 5, 7, 7, 9, 9], np.int32),
        site=np.array([1, 1, 1, 1, 1, 1, 3, 3], np.int32),
        size=np.arange(8, dtype=np.float32) + 0.5,
    )
    return f"npz(path='{path}', test='{path}', client=who, inputs=site)"


def test_figures_by_hand(rows: str, tmp_path: Path, capsys) -> None:
    """Labels 3+1, 2+0, 0+2 of 5+3: distances 1/8, 3/8, 5/8."""
    name = tmp_path / "p.json"
    config = Config(data=rows, partition="natural", cohort=1)
    found = show_partition(config, "", Outputs(json=str(name)))
    assert json.loads(name.read_text()) == found
    shuffled = found.pop("mean_distance_shuffled")
    assert 0 < shuffled < 0.6
    data = load_data(config).name
    assert found == {
        "data": data,
        "partition": "natural",
        "seed": 0,
        "clients": 3,
        "rows": 8,
        "unused_rows": 0,
        "rows_of_a_client": {"smallest": 2, "median": 2.0, "largest": 4},
        "counted": "labels",
        "labels": ["0", "1"],
        "labels_that_occur": 2,
        "labels_of_a_client": {"smallest": 1, "median": 1.0, "largest": 2},
        "mean_distance": 0.375,
        "by_client": [
            {"rows": 4, "counts": [3, 1], "distance": 0.125},
            {"rows": 2, "counts": [2, 0], "distance": 0.375},
            {"rows": 2, "counts": [0, 2], "distance": 0.625},
        ],
    }
    assert capsys.readouterr().out.splitlines() == [
        f"data       {data}",
        "partition  natural, seed 0",
        "clients    3",
        "rows       8; of a client 2 / 2 / 4 (smallest / median / largest)",
        "labels     2; of a client 1 / 1 / 2 (fewest / median / most)",
        "distance   0.375 on average from all clients together (total variation, 0 to "
        f"1); if rows were shuffled, {shuffled:.3f}",
        f"files      {name}",
    ]


def test_another_column_and_rows_of_nobody(rows: str, capsys) -> None:
    config = Config(data=rows, partition="natural", clients=2, cohort=1, seed=1)
    found = show_partition(config, "site", Outputs())
    assert (found["counted"], found["labels"]) == ("site", ["1", "3"])
    data, owner = deal(config, load_data(config))
    assert [c["rows"] for c in found["by_client"]] == data.sizes.tolist()
    assert found["unused_rows"] == (owner < 0).sum() > 0
    assert f"; {found['unused_rows']} are nobody's" in capsys.readouterr().out


def test_public_rows_belong_to_nobody(rows: str) -> None:
    config = Config(data=rows, partition="iid", clients=2, cohort=1)
    whole = show_partition(config, "", Outputs(quiet=True))
    config = Config(
        data=rows, partition="iid", clients=2, cohort=1, public="held_out(0.25)"
    )
    left = show_partition(config, "", Outputs(quiet=True))
    assert (whole["rows"], left["rows"]) == (8, 6)


def test_from_the_command_line_to_a_picture(
    rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer clients than are in a cohort that nobody has asked for."""
    path, name = tmp_path / "p.png", tmp_path / "p.json"
    argv = ["partition", "--data", rows, "--partition", "pathological(classes=1)"]
    argv += ["--clients", "4", "--seed", "3", "--output", str(path)]
    assert main([*argv, "--json", str(name), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert path.read_bytes().startswith(PNG)
    found = json.loads(name.read_text())
    # Each label has two clients: five rows are three and two, three are two and one.
    assert sorted(c["rows"] for c in found["by_client"]) == [1, 2, 2, 3]
    assert found["labels_of_a_client"]["largest"] == 1
    again = show_partition(
        Config(data=rows, partition=found["partition"], clients=4, cohort=1, seed=3),
        "",
        Outputs(quiet=True),
    )
    assert again == found


def test_numbers_are_counted_by_parts(rows: str, tmp_path: Path, capsys) -> None:
    """Of a regression, without and with a column in its place."""
    path = tmp_path / "p.svg"
    data = rows.replace("inputs", "labels=size, inputs")
    argv = ["partition", "--data", data, "--partition", "natural"]
    assert main([*argv, "--output", str(path)]) == 0
    text = capsys.readouterr().out
    assert "parts of the target  8; of a client 2 / 2 / 4" in text
    assert b"<svg" in path.read_bytes()
    argv[-1] = "shards(by=site, per_client=1)"
    assert main([*argv, "--clients", "2", "--by", "site"]) == 0
    assert "site       2; of a client 1 / 1.5 / 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--partiton iid", "partition has no option --partiton; did you mean"),
        ("--partition idd", "partition: unknown partition 'idd'; did you mean 'iid'?"),
        ("--partition natural", "digits has no clients of its own; use iid"),
        ("--partition pathological(classes=11)", "digits have 10 labels; lower"),
        ("--partition label_count --clients 3", "ask for at least 10 clients"),
        ("--partition shards(by=writer)", "shards: by cannot be 'writer'; known: lab"),
        ("--data digit", "data: unknown data 'digit'; did you mean 'digits'?"),
        ("--by writer", "partition: by cannot be 'writer'; known: labels"),
        ("--clients -1", "clients must be between 0 and"),
        ("--clients 2000", "2000 clients cannot share the 1437"),
        ("--output p.pdf", "output is a PNG or an SVG; give a name like p.png"),
        ("--output none/p.png", "output: there is no folder none; make it first"),
        ("--output .", "output needs the name of a file, not '.'"),
        ("--json none/p.json", "json: there is no folder none; make it first"),
        ("more", "partition does not take the argument 'more'"),
    ],
)
def test_errors_are_one_line(
    options: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["partition", *options.split()]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    line = found.err.splitlines()[0]
    assert line.startswith("fedjax-compress: error: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []
