"""The file of records: every round once, in order, whatever happens between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_compress.errors import InputError
from fedjax_compress.report.records import Writer, clean, read, to_line


def test_clean() -> None:
    found = clean(
        {
            "nan": float("nan"),
            "inf": [float("inf"), -float("inf"), 1.5],
            "numpy": np.float32(0.5),
            "count": np.int64(3),
            "array": np.array(float("nan")),
            "text": "a",
            "none": None,
            "flag": True,
        }
    )
    assert found == {
        "nan": None,
        "inf": [None, None, 1.5],
        "numpy": 0.5,
        "count": 3,
        "array": None,
        "text": "a",
        "none": None,
        "flag": True,
    }
    assert type(found["count"]) is int


def test_lines_have_sorted_keys() -> None:
    assert to_line({"b": 1, "a": float("nan")}) == '{"a": null, "b": 1}\n'


@given(value=st.floats())
def test_floats_survive(value: float) -> None:
    found = json.loads(to_line({"x": value}))["x"]
    assert found == (value if np.isfinite(value) else None)


@given(
    runs=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 30)), min_size=1, max_size=6
    )
)
def test_no_round_is_doubled_or_lost(
    runs: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each start writes some rounds, is killed (the tail of the file is lost in the
    middle of a line), and the next goes on from a round that is still whole."""
    path = tmp_path_factory.mktemp("records") / "metrics.jsonl"
    after = 0
    for rounds, torn in runs:
        with Writer(path, after=after) as writer:
            assert [r["round"] for r in writer.records] == list(range(1, after + 1))
            for number in range(after + 1, after + rounds + 1):
                writer.append({"round": number, "loss": number / 3})
        data = path.read_bytes()
        path.write_bytes(data[: max(0, len(data) - torn)])
        whole = read(path)
        assert whole == [{"round": i, "loss": i / 3} for i in range(1, len(whole) + 1)]
        after = len(whole) // 2
    with Writer(path, after=after) as writer:
        writer.append({"round": after + 1})
    assert [r["round"] for r in read(path)] == list(range(1, after + 2))


def test_lost_lines_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Writer(path) as writer:
        writer.append({"round": 1})
    with pytest.raises(InputError, match=r"ends at round 1, before .* round 5"):
        Writer(path, after=5)


def test_wrong_round_is_refused(tmp_path: Path) -> None:
    with Writer(tmp_path / "m.jsonl") as writer:
        with pytest.raises(ValueError, match="round 2 where 1 is next"):
            writer.append({"round": 2})
        writer.append({"round": 1})
        with pytest.raises(ValueError, match="round 1 where 2 is next"):
            writer.append({"round": 1})


@pytest.mark.parametrize(
    "text", ['{"round": 2}\n', "not json\n", "[1]\n", '{"round": 1}\n{"round": 1}\n']
)
def test_damaged_records_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"line [12] is not the record of its round"):
        read(path)


def test_lines_are_visible_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with Writer(path) as writer:
        writer.append({"round": 1})
        assert read(path) == [{"round": 1}]
