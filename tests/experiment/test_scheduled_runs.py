"""Runs whose compression changes over rounds."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from fedjax_compress.errors import CheckpointError, InputError, SpecError
from fedjax_compress.experiment import Config, build, load_toml, resume, run
from fedjax_compress.registry import build as build_one
from fedjax_compress.report import files, records

UPLINK = "error_feedback(top_k(steps((0.3, 0.1), after=3), indices=fixed))"
DOWNLINK = "uniform(bits=ramp(8, 4, rounds=4, steps=2))"


def numbers(folder: Path) -> list[records.Record]:
    return [
        {k: v for k, v in record.items() if k not in records.CLOCK}
        for record in records.read(folder / files.METRICS)
    ]


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """Six rounds in three phases: after 0, 3 and 4 rounds."""
    folder = tmp_path_factory.mktemp("scheduled") / "run"
    config = load_toml(finished / files.CONFIG)
    config = dataclasses.replace(
        config, uplink=UPLINK, downlink=DOWNLINK, rounds_per_call=2, keep=3
    )
    run(config, folder, quiet=True)
    return folder


def test_bytes_of_each_phase(scheduled: Path) -> None:
    """Leaves of 640 and 10; 4 clients; k values of 32 bits and positions of 10 or 4."""
    history = records.read(scheduled / files.METRICS)
    up = [(192 * (32 + 10) + 3 * (32 + 4) + 7) // 8, (64 * 42 + 36 + 7) // 8]
    down = [650 + 16, 325 + 16]  # symbols, and minimum and maximum of each leaf
    assert [r["bytes_up"] for r in history] == [
        4 * (16 + up[i]) for i in (0, 0, 0, 1, 1, 1)
    ]
    assert [r["bytes_down"] for r in history] == [
        4 * (16 + down[i]) for i in (0, 0, 0, 0, 1, 1)
    ]


def test_the_schedule_is_kept_as_written(scheduled: Path) -> None:
    assert load_toml(scheduled / files.CONFIG).uplink == UPLINK
    assert files.read_json(scheduled / files.SUMMARY)["downlink"] == DOWNLINK


@pytest.mark.parametrize("at", [2, 4])
def test_resume_across_a_boundary_and_from_one(
    scheduled: Path, tmp_path: Path, at: int
) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(scheduled, folder)
    (folder / files.SUMMARY).unlink()
    for checkpoint in (folder / files.CHECKPOINTS).iterdir():
        if int(checkpoint.name) > at:
            shutil.rmtree(checkpoint)
    resume(folder, quiet=True)
    assert numbers(folder) == numbers(scheduled)
    digests = [
        files.read_json(f / files.SUMMARY)["parameters_sha256"]
        for f in (folder, scheduled)
    ]
    assert digests[0] == digests[1]


def test_another_schedule_is_another_run(scheduled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    shutil.copytree(scheduled, folder)
    (folder / files.SUMMARY).unlink()
    text = (folder / files.CONFIG).read_text()
    (folder / files.CONFIG).write_text(text.replace("after=3", "after=2"))
    with pytest.raises(CheckpointError, match="uplink was"):
        resume(folder, quiet=True)


def test_a_constant_schedule_is_the_constant(
    finished: Path, tiny: Config, tmp_path: Path
) -> None:
    uplink = "error_feedback(top_k(constant(0.1)))"
    config = dataclasses.replace(tiny, uplink=uplink, rounds=4)
    run(config, tmp_path / "constant", quiet=True)
    found = numbers(tmp_path / "constant")
    assert found == numbers(finished)[:4]


def test_mistakes_in_a_schedule_name_the_setting(tiny: Config, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny, downlink="top_k(steps((1, 2), after=9))")
    with pytest.raises(SpecError, match="downlink: top_k: fraction must be above 0"):
        run(config, tmp_path / "new", quiet=True)
    config = dataclasses.replace(tiny, local="sgd(lr=steps((1, -2), after=9))")
    with pytest.raises(InputError, match=r"local: sgd: lr must be positive .* -2"):
        run(config, tmp_path / "new", quiet=True)
    assert not (tmp_path / "new").exists()


def test_phases_of_both_links_are_joined(tiny: Config) -> None:
    config = dataclasses.replace(
        tiny,
        uplink="top_k(steps((1, 0.5, 0.1), after=(3, 5)))",
        downlink="uniform(bits=steps((8, 4, 2), after=(4, 5)))",
    )
    task = build.load_data(config).task
    course = build.build_course(config, build_one("model", "logistic", task))
    assert [after for after, _ in course.later] == [3, 4, 5]
