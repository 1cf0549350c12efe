"""Comparisons and reports: same data, seeds and rounds; kept work is not redone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedjax_compress.compress import parse
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import (
    SCHEMES,
    Config,
    Scheme,
    compare,
    files,
    load_toml,
    records,
    report,
)
from fedjax_compress.experiment.comparison import parse_scheme
from fedjax_compress.experiment.reporting import curve_of, read_finished, table

TWO = (Scheme("plain", "identity", "identity"), Scheme("half", "cast(float16)"))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison of two schemes, three rounds each."""
    folder = tmp_path_factory.mktemp("compared") / "both"
    compare(small(), TWO, folder, quiet=True)
    return folder


def small() -> Config:
    return Config(
        clients=8,
        cohort=4,
        rounds=3,
        model="logistic",
        local="sgd(lr=0.1, steps=2, batch=5)",
        downlink="cast(bfloat16)",
        evaluate_every=1,
    )


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("a=identity", Scheme("a", "identity")),
        ("4 bit = uniform(bits=4)", Scheme("4 bit", "uniform(bits=4)")),
        ("uniform(bits=4)", Scheme("uniform(bits=4)", "uniform(bits=4)")),
        ("hadamard | qsgd(bits=4)", Scheme(*["hadamard | qsgd(bits=4)"] * 2)),
        ("a=identity; qsgd(bits=4)", Scheme("a", "identity", "qsgd(bits=4)")),
        ("identity;cast(float16)", Scheme("identity", "identity", "cast(float16)")),
    ],
)
def test_schemes_are_read(text: str, scheme: Scheme) -> None:
    assert parse_scheme(text) == scheme


@pytest.mark.parametrize("text", ["", "a=", "a=;identity", " = "])
def test_schemes_without_uplink_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="has no uplink"):
        parse_scheme(text)


def test_default_schemes_are_six_and_can_be_built() -> None:
    assert len(SCHEMES) >= 6
    assert SCHEMES[0] == Scheme("FP32", "identity", "identity")
    assert len({s.name for s in SCHEMES}) == len(SCHEMES)
    for scheme in SCHEMES:
        parse(scheme.uplink)


def test_comparison(compared: Path) -> None:
    content = files.read_json(compared / files.COMPARISON)
    assert (compared / files.COMPARISON_PLOT).stat().st_size > 10_000
    plain, half = content["schemes"]
    assert [plain["name"], half["name"]] == ["plain", "half"]
    assert [plain["downlink"], half["downlink"]] == ["identity", "cast(bfloat16)"]
    assert plain["seed"] == half["seed"]
    assert plain["rounds"] == half["rounds"] == 3
    assert 1.8 < half["saved_up"] <= 2
    assert 0.9 < plain["saved_up"] <= 1
    for scheme in content["schemes"]:
        folder = compared / scheme["folder"]
        summary = files.read_json(folder / files.SUMMARY)
        assert {k: scheme[k] for k in summary} == summary
        assert [r["round"] for r in scheme["curve"]] == [1, 2, 3]
        assert scheme["curve"][-1]["bytes_up"] == summary["bytes_up"]
    one, other = (
        load_toml(compared / s["folder"] / files.CONFIG) for s in (plain, half)
    )
    changes = {"uplink": other.uplink, "downlink": other.downlink}
    assert dataclasses.replace(one, **changes) == other


def test_finished_schemes_are_kept(compared: Path, capsys: Any) -> None:
    before = {
        p: p.stat().st_mtime_ns for p in compared.rglob("*") if p.parent != compared
    }
    compare(small(), TWO, compared)
    after = {
        p: p.stat().st_mtime_ns for p in compared.rglob("*") if p.parent != compared
    }
    assert before == after
    text = capsys.readouterr().out
    assert text.count("is finished: 3 rounds") == 2
    assert "cast(float16)" in text


def test_unfinished_schemes_go_on(compared: Path) -> None:
    folder = compared / "half"
    summary = files.read_json(folder / files.SUMMARY)
    (folder / files.SUMMARY).unlink()
    compare(small(), TWO, compared, quiet=True)
    again = files.read_json(folder / files.SUMMARY)
    assert again["parameters_sha256"] == summary["parameters_sha256"]
    assert again["bytes_up"] == summary["bytes_up"]


def test_other_settings_are_refused(compared: Path) -> None:
    other = dataclasses.replace(small(), seed=5)
    with pytest.raises(InputError, match=r"other settings: seed \(wanted 5, found 0\)"):
        compare(other, TWO, compared, quiet=True)
    with pytest.raises(InputError, match="already holds a single run"):
        compare(small(), TWO, compared / "half", quiet=True)


def test_all_schemes_are_checked_before_one_runs(tmp_path: Path) -> None:
    schemes = (TWO[0], Scheme("bad", "hadamard | unifrm"))
    with pytest.raises(InputError, match="did you mean 'uniform'"):
        compare(small(), schemes, tmp_path / "new", quiet=True)
    twice = (Scheme("a b", "identity"), Scheme("a-b", "identity"))
    with pytest.raises(InputError, match="share the folder 'a-b'"):
        compare(small(), twice, tmp_path / "new", quiet=True)
    assert not (tmp_path / "new").exists()


def test_report(compared: Path, finished: Path, tmp_path: Path, capsys: Any) -> None:
    content = report([compared, finished], tmp_path / "out")
    names = [s["name"] for s in content["schemes"]]
    assert names == ["plain", "half", finished.name]
    assert files.read_json(tmp_path / "out" / files.COMPARISON) == content
    assert (tmp_path / "out" / files.COMPARISON_PLOT).exists()
    text = capsys.readouterr().out
    for word in ("plain", "half", finished.name, "error_feedback(top_k(0.1))"):
        assert word in text
    again = report([tmp_path / "out"], tmp_path / "third", quiet=True)
    assert [s["name"] for s in again["schemes"]] == names


def test_runs_of_one_name_are_told_apart(finished: Path, tmp_path: Path) -> None:
    content = report([finished, finished], tmp_path / "out", quiet=True)
    assert {s["name"] for s in content["schemes"]} == {str(finished)}


def test_report_needs_finished_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one run"):
        report([], tmp_path / "out")
    with pytest.raises(InputError, match="there is no folder"):
        report([tmp_path / "none"], tmp_path / "out")
    with pytest.raises(InputError, match="holds no run"):
        report([tmp_path], tmp_path / "out")
    (tmp_path / files.CONFIG).touch()
    with pytest.raises(InputError, match="not finished; go on with"):
        report([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_table_drops_specifications_on_narrow_consoles(finished: Path) -> None:
    runs = [read_finished(finished)]
    assert len(table(runs, Console(width=200)).columns) == 9
    assert len(table(runs, Console(width=80)).columns) == 7


def test_curve_sums_bytes_between_evaluations(finished: Path) -> None:
    history = records.read(finished / files.METRICS)
    curve = curve_of(history)
    assert [r["round"] for r in curve] == [2, 4, 6]
    assert curve[1]["bytes_up"] == sum(r["bytes_up"] for r in history[:4])
    assert curve[1]["test_loss"] == history[3]["test_loss"]
