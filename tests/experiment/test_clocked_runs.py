"""What runs with a clock leave behind: totals, shares, pictures, comparisons."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedjax_compress.cli.commands import main
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, Scheme, compare, resume, run
from fedjax_compress.experiment.summary import summarize
from fedjax_compress.report import files, records, report

CLOCK = (
    "network(mobile_2020, sigma=0.6) | devices(phone, sigma=0.6) | "
    "over_selection(1.5) | dropout(0.1) | energy"
)
BASE = Config(
    clients=20,
    cohort=6,
    rounds=3,
    model="logistic",
    local="sgd(lr=0.1, steps=2, batch=5)",
    downlink="identity",
    clock=CLOCK,
    evaluate_every=1,
)
TWO = (Scheme("plain", {"uplink": "identity"}), Scheme("half", {"uplink": "cast"}))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two schemes, shown against time, with a target that the first round reaches."""
    folder = tmp_path_factory.mktemp("clocked") / "both"
    compare(BASE, TWO, folder, axis="time", target=0.0, quiet=True)
    return folder


@pytest.fixture(scope="module")
def plain(compared: Path) -> Path:
    """The run of the first scheme."""
    schemes = files.read_json(compared / files.GRID_RESULT)["schemes"]
    return compared / schemes[0]["runs"][0]["folder"]


def test_the_summary_adds_up(plain: Path) -> None:
    history = records.read(plain / files.METRICS)
    found = files.read_json(plain / files.SUMMARY)
    for name in ("virtual_seconds", "energy_joules", "late", "lost", "sent"):
        assert found[name] == pytest.approx(sum(r[name] for r in history))
    assert found["late"] > 0
    assert found["lost"] > 0
    assert "failed" not in found
    asked = sum(r["clients"] for r in history)
    assert asked == 3 * 9
    assert found["sent"] < asked
    assert found["fp32_bytes"] == 4 * found["parameters"] * asked
    # The header of an uncompressed message is all that it has more than 32 bits each.
    assert 0.98 < found["saved_up"] <= 1
    shares = [found[f"{n}_share"] for n in ("download", "compute", "upload", "waiting")]
    assert sum(shares) == pytest.approx(1)
    for name, share in zip(("download", "compute", "upload"), shares, strict=False):
        spent = sum(r[f"{name}_seconds"] for r in history)
        assert share == pytest.approx(spent / found["virtual_seconds"])
    assert shares[3] > 0.001


def record(**more: Any) -> dict[str, Any]:
    found = {"clients": 4, "bytes_up": 100, "bytes_down": 100, "dropped": 0}
    found |= {"nominal_bytes_up": 1, "nominal_bytes_down": 1, "seconds": 1.0}
    return found | {"round": 1, "train_loss": 0.5, "test_loss": 0.5, **more}


def spent(download: float, compute: float, upload: float) -> dict[str, float]:
    parts = {"download": download, "compute": compute, "upload": upload}
    return {f"{name}_seconds": value for name, value in parts.items()}


@pytest.mark.parametrize(
    ("rounds", "wanted"),
    [
        ([{"virtual_seconds": 10.0, **spent(1, 2, 3)}], [0.1, 0.2, 0.3, 0.4]),
        (
            [
                {"virtual_seconds": 10.0, **spent(2, 2, 2)},
                {"virtual_seconds": 10.0, **spent(0, 0, 0), "failed": True},
            ],
            [0.1, 0.1, 0.1, 0.7],
        ),
        # Nobody waits: clients have begun long before the step.
        (
            [{"virtual_seconds": 1.0, "staleness": 2.0, "stale": 3, **spent(1, 2, 1)}],
            [0.25, 0.5, 0.25, 0.0],
        ),
        ([{"virtual_seconds": 0.0, **spent(0, 0, 0)}], [None] * 4),
    ],
)
def test_shares_of_the_time(
    rounds: list[dict[str, Any]], wanted: list[Any], parts: Any
) -> None:
    history = [record(**one) for one in rounds]
    found = summarize(BASE, history, *parts)
    names = ("download", "compute", "upload", "waiting")
    assert [found[f"{n}_share"] for n in names] == pytest.approx(wanted)
    assert found.get("failed", 0) == sum("failed" in r for r in rounds)
    sent = sum(4 + r.get("stale", 0) for r in rounds)  # those too old have sent as well
    assert found["saved_up"] == 4 * found["parameters"] * sent / found["bytes_up"]


@pytest.fixture(scope="module")
def parts() -> Any:
    from fedjax_compress.experiment.build import build

    made = build(BASE)
    return made, made.params


def test_the_last_round_is_drawn(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the start that has run it; one with nothing left to do leaves it alone."""
    assert (plain / files.ROUND_PLOT).stat().st_size > 10_000
    shutil.copytree(plain, tmp_path / "again")
    (tmp_path / "again" / files.ROUND_PLOT).unlink()
    (tmp_path / "again" / files.SUMMARY).unlink()
    resume(tmp_path / "again")
    assert not (tmp_path / "again" / files.ROUND_PLOT).exists()
    text = capsys.readouterr().out
    assert files.ROUND_PLOT not in text
    assert f"clock    {CLOCK}\n" in text
    (line,) = (s for s in text.splitlines() if s.startswith("virtual time "))
    assert " ms (" in line or " s (" in line
    assert " % download, " in line
    assert "J; reports: " in line
    resume(tmp_path / "again", {"rounds": 4})
    assert (tmp_path / "again" / files.ROUND_PLOT).exists()
    text = capsys.readouterr().out
    assert files.ROUND_PLOT in text
    assert "  virtual " in text


def test_a_comparison_against_time(compared: Path) -> None:
    content = files.read_json(compared / files.GRID_RESULT)
    assert content["axis"] == "time"
    assert content["target"] == 0.0
    for scheme in content["schemes"]:
        (one,) = scheme["runs"]
        first = one["curve"][0]
        assert one["seconds_to_target"] == first["virtual_seconds"] > 0
        sent = first["bytes_up"] + first["bytes_down"]
        assert scheme["bytes_to_target"]["values"] == [sent]
        assert one["curve"][-1]["virtual_seconds"] == one["virtual_seconds"]
        assert one["curve"][-1]["energy_joules"] == one["energy_joules"]
        assert scheme["virtual_seconds"]["mean"] == one["virtual_seconds"]


def test_the_front_is_by_the_axis(compared: Path, tmp_path: Path) -> None:
    """Shown against rounds, of which all have as many, the best alone is on it."""
    shutil.copytree(compared, tmp_path / "c")
    content = compare(BASE, TWO, tmp_path / "c", axis="rounds", quiet=True)
    scores = [s["test_accuracy"]["mean"] for s in content["schemes"]]
    on_front = [s["pareto"] for s in content["schemes"]]
    assert on_front == [score == max(scores) for score in scores]
    assert "target" not in content


def test_a_report_of_them(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "out")]
    argv = ["report", str(compared), "--axis", "energy", "--target", "0.999", *out]
    assert main(argv) == 0
    content = files.read_json(tmp_path / "out" / files.COMPARISON)
    assert content["target"] == 0.999
    assert [s["seconds_to_target"] for s in content["schemes"]] == [None, None]
    head, plain, *_ = capsys.readouterr().out.splitlines()
    assert "MB to 99.9 %  time to 99.9 %" in head
    assert plain.split()[-3:-1] == ["-", "-"]


def test_what_has_no_time_is_not_shown_against_it(
    finished: Path, compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    with pytest.raises(InputError, match="'tiny' has no virtual time: it was run with"):
        report([compared, finished], folder, axis="time")
    argv = ["report", str(compared), "--target", "x", "--output", str(folder)]
    assert main(argv) == 2
    assert "--target needs a number, not 'x'" in capsys.readouterr().err
    for axis, clock in (
        ("time", "none"),
        ("time", "over_selection(1.3)"),
        ("energy", "network(mobile_2020)"),
    ):
        argv = ["compare", "--axis", axis, "--clock", clock, "--output", str(folder)]
        assert main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"scheme 'FP32': axis {axis} needs " in line
        assert line.endswith(f"not clock {clock!r}")
    assert not folder.exists()


@pytest.mark.parametrize("stop", ["false", "true"])
def test_a_deadline_that_nobody_meets(
    stop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends as others do, with nothing sent; by option after the first round."""
    clock = f"network(weak_3g) | devices(phone) | deadline(0.001, stop={stop})"
    config = dataclasses.replace(BASE, clock=clock, rounds_per_call=3, evaluate_every=3)
    summary = run(config, tmp_path / "late")
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("bytes up")]
    assert line.split() == ["bytes", "up", "0.0", "kB"]
    assert f"; rounds that failed: {summary['rounds']}" in said.replace("\n", " ")
    assert summary["bytes_up"] == 0
    assert summary["saved_up"] is None
    assert summary["late"] == 6 * summary["rounds"]
    if stop == "true":
        assert summary["rounds"] == 1
        assert summary["stop_reason"].endswith("by the deadline of round 1")
    else:
        assert (summary["rounds"], summary["failed"]) == (3, 3)
