"""Runs: what they leave behind, and that going on changes nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from fedjax_compress.errors import CheckpointError, InputError
from fedjax_compress.experiment import Config, Stopped, load_toml, resume, run
from fedjax_compress.report import files, records
from fedjax_compress.report.progress import Progress

Change = Any


def numbers(folder: Path) -> list[dict[str, Any]]:
    """All records without what depends on the clock."""
    return [
        {k: v for k, v in record.items() if k not in records.CLOCK}
        for record in records.read(folder / files.METRICS)
    ]


def digest(folder: Path) -> str:
    found: str = files.read_json(folder / files.SUMMARY)["parameters_sha256"]
    return found


def unfinished(finished: Path, folder: Path, rounds: int) -> Path:
    """A copy as a kill in a later round leaves it: no summary, lines too many."""
    shutil.copytree(finished, folder)
    (folder / files.SUMMARY).unlink()
    (folder / files.PLOT).unlink()
    for checkpoint in (folder / files.CHECKPOINTS).iterdir():
        if int(checkpoint.name) > rounds:
            shutil.rmtree(checkpoint)
    with (folder / files.METRICS).open("a") as file:
        file.write('{"round": 7, "torn')
    return folder


def test_what_a_run_leaves_behind(finished: Path, tiny: Config) -> None:
    names = {p.name for p in finished.iterdir()}
    assert names == {
        files.CONFIG,
        files.METRICS,
        files.SUMMARY,
        files.PLOT,
        files.CHECKPOINTS,
    }
    recorded = load_toml(finished / files.CONFIG)
    layout = {n: getattr(recorded, n) for n in ("lanes", "devices")}
    assert all(layout.values())
    assert recorded == dataclasses.replace(tiny, **layout)
    history = records.read(finished / files.METRICS)
    assert [r["round"] for r in history] == [1, 2, 3, 4, 5, 6]
    assert [r["round"] for r in history if "test_accuracy" in r] == [2, 4, 6]
    for record in history:
        assert record["clients"] == 4
        assert record["bytes_up"] > 0
        assert record["bytes_down"] > 0
    for line in (finished / files.METRICS).read_text().splitlines():
        assert list(json.loads(line)) == sorted(json.loads(line))


def test_summary_adds_up(finished: Path) -> None:
    """Sums over the records; the factors against 4 bytes a parameter and message."""
    summary = files.read_json(finished / files.SUMMARY)
    history = records.read(finished / files.METRICS)
    for name in ("bytes_up", "bytes_down", "nominal_bytes_up", "nominal_bytes_down"):
        assert summary[name] == sum(r[name] for r in history)
    assert summary["rounds"] == 6
    assert summary["clients"] == 8
    assert summary["dropped"] == 0
    assert summary["parameters"] == 64 * 10 + 10
    assert summary["fp32_bytes"] == 6 * 4 * 650 * 4
    assert summary["saved_up"] == summary["fp32_bytes"] / summary["bytes_up"]
    assert summary["saved_up"] > 4
    assert 0.9 < summary["saved_down"] <= 1  # FP32 and a header
    assert summary["test_accuracy"] == history[-1]["test_accuracy"]
    assert summary["test_loss"] == history[-1]["test_loss"]
    seconds = sum(r["seconds"] for r in history)
    assert summary["clients_per_second"] == pytest.approx(24 / seconds)
    assert len(summary["parameters_sha256"]) == 64


def test_config_reloads_to_the_same_run(finished: Path, tmp_path: Path) -> None:
    run(load_toml(finished / files.CONFIG), tmp_path / "again", quiet=True)
    assert numbers(tmp_path / "again") == numbers(finished)
    assert digest(tmp_path / "again") == digest(finished)


def test_resume_is_bit_for_bit_and_twice_is_once(
    finished: Path, tmp_path: Path
) -> None:
    folder = unfinished(finished, tmp_path / "killed", rounds=4)
    resume(folder, quiet=True)
    assert numbers(folder) == numbers(finished)
    assert digest(folder) == digest(finished)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    resume(folder, quiet=True)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_killed_after_the_last_round(finished: Path, tmp_path: Path) -> None:
    folder = unfinished(finished, tmp_path / "killed", rounds=6)
    summary = resume(folder, quiet=True)
    assert numbers(folder) == numbers(finished)
    assert summary["parameters_sha256"] == digest(finished)


def test_killed_before_the_first_checkpoint(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    shutil.copy(finished / files.CONFIG, folder)
    (folder / files.METRICS).touch()
    resume(folder, quiet=True)
    assert numbers(folder) == numbers(finished)
    assert digest(folder) == digest(finished)


def test_no_usable_checkpoint(finished: Path, tmp_path: Path) -> None:
    folder = unfinished(finished, tmp_path / "killed", rounds=0)
    before = (folder / files.METRICS).read_bytes()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        resume(folder, quiet=True)
    assert (folder / files.METRICS).read_bytes() == before


def test_more_rounds(finished: Path, tiny: Config, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    shutil.copytree(finished, folder)
    summary = resume(folder, {"rounds": 8}, quiet=True)
    assert summary["rounds"] == 8
    assert load_toml(folder / files.CONFIG).rounds == 8
    run(dataclasses.replace(tiny, rounds=8), tmp_path / "at once", quiet=True)
    assert numbers(folder) == numbers(tmp_path / "at once")
    assert digest(folder) == digest(tmp_path / "at once")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cohort": 5}, r"other settings: cohort \(wanted 5, found 4\)"),
        ({"uplink": "identity", "seed": 3}, "seed .*uplink .*identity"),
        ({"rounds": 5}, "run of 6 rounds; rounds can only be raised, not lowered to 5"),
        ({"checkpoint_every": 3}, "checkpoint_every"),
    ],
)
def test_resume_refuses_other_settings(
    finished: Path, changes: dict[str, Change], words: str
) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    with pytest.raises(InputError, match=words) as caught:
        resume(finished, changes, quiet=True)
    assert "\n" not in str(caught.value)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_two_processes_do_not_share_a_folder(
    finished: Path, tiny: Config, tmp_path: Path
) -> None:
    pytest.importorskip("fcntl")
    folder = unfinished(finished, tmp_path / "busy", rounds=4)
    before = (folder / files.METRICS).read_bytes()
    (tmp_path / "new").mkdir()
    with files.held(folder), files.held(tmp_path / "new"):
        with pytest.raises(InputError, match="another process is at work"):
            resume(folder, quiet=True)
        with pytest.raises(InputError, match="another process is at work"):
            run(tiny, tmp_path / "new", quiet=True)
    assert (folder / files.METRICS).read_bytes() == before
    assert not list((tmp_path / "new").iterdir())


def test_a_label_no_leaf_has_leaves_no_folder(tiny: Config, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny, uplink="by_label(default=cast, nope=cast)")
    with pytest.raises(InputError, match="uplink: no leaf is labelled 'nope'"):
        run(config, tmp_path / "new", quiet=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["{}", "torn", '{"rounds": 4}'])
def test_a_summary_of_something_else_is_written_again(
    finished: Path, tmp_path: Path, text: str
) -> None:
    """As a kill between a raised number of rounds and the old summary leaves it."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / files.SUMMARY).write_text(text)
    summary = resume(folder, quiet=True)
    assert summary["rounds"] == 6
    assert digest(folder) == digest(finished)


def test_resume_of_a_report_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / files.COMPARISON).write_text("{}")
    with pytest.raises(
        InputError, match="holds a report, or a comparison of an earlier"
    ):
        resume(tmp_path)


def test_an_edited_configuration_is_noticed(finished: Path, tmp_path: Path) -> None:
    folder = unfinished(finished, tmp_path / "edited", rounds=4)
    text = (folder / files.CONFIG).read_text().replace("seed = 0", "seed = 1")
    (folder / files.CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match="seed was 0, now 1"):
        resume(folder, quiet=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(
    finished: Path,
    tiny: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    folder = tmp_path / "stopped"
    update = Progress.update

    def update_and_signal(self: Progress, record: records.Record) -> None:
        update(self, record)
        if record["round"] == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Progress, "update", update_and_signal)
    with pytest.raises(Stopped, match=f"{number.name} after round 3.*resume") as caught:
        run(tiny, folder, quiet=True)
    assert caught.value.round == 3
    assert len(records.read(folder / files.METRICS)) == 3
    assert (folder / files.CHECKPOINTS / "00000003").is_dir()  # not only the second
    assert not (folder / files.SUMMARY).exists()
    monkeypatch.undo()
    if number == signal.SIGTERM:  # the other one has saved in the same way
        resume(folder, quiet=True)
        assert numbers(folder) == numbers(finished)
        assert digest(folder) == digest(finished)


def test_clients_that_are_not_finite_are_counted(tiny: Config, tmp_path: Path) -> None:
    config = dataclasses.replace(
        tiny,
        local="sgd(lr=1e38, steps=2)",
        rounds=2,
        uplink="identity",
        evaluate_clients=True,
    )
    summary = run(config, tmp_path / "wild", quiet=True)
    history = records.read(tmp_path / "wild" / files.METRICS)
    assert summary["dropped"] == sum(r["dropped"] for r in history) > 0
    assert summary["rounds"] == 2
    assert "client_accuracy_mean" in history[-1]
    assert 0 <= summary["client_accuracy_p10"] <= 1


def test_default_folder_is_the_next_free(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "digits-001").mkdir(parents=True)
    run(dataclasses.replace(tiny, rounds=1, lanes=0))
    folder = tmp_path / "runs" / "digits-002"
    assert (folder / files.SUMMARY).exists()
    assert load_toml(folder / files.CONFIG).lanes > 0
    text = capsys.readouterr().out
    assert "8 by dirichlet(alpha=0.5)" in text
    assert "logistic: 650 parameters" in text
    assert "round 1/1" in text
    assert "fewer than FP32" in text
    assert "runs/digits-002: config.toml" in text


def test_rounds_in_one_call_change_nothing(
    finished: Path, tiny: Config, tmp_path: Path
) -> None:
    config = dataclasses.replace(tiny, rounds_per_call=4, evaluate_every=6)
    run(config, tmp_path / "calls", quiet=True)
    ours = [
        {k: v for k, v in r.items() if not k.startswith("test_")}
        for r in numbers(tmp_path / "calls")
    ]
    theirs = [
        {k: v for k, v in r.items() if not k.startswith("test_")}
        for r in numbers(finished)
    ]
    for a, b in zip(ours, theirs, strict=True):
        assert a.pop("train_loss") == pytest.approx(b.pop("train_loss"), rel=1e-5)
        assert a == b
