"""Folders of runs and files that are replaced in one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.report import files


def test_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    files.write_json(path, {"x": 2})
    assert files.read_json(path) == {"x": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    files.write_atomically(path, "old")

    def broken(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_next_free_counts_up(tmp_path: Path) -> None:
    names = [files.next_free("digits", tmp_path / "runs").name for _ in range(3)]
    assert names == ["digits-001", "digits-002", "digits-003"]


@pytest.mark.parametrize(
    "name", [files.CONFIG, files.METRICS, files.SUMMARY, files.CHECKPOINTS]
)
def test_a_folder_with_a_run_is_not_free(tmp_path: Path, name: str) -> None:
    files.check_free(tmp_path)
    files.check_free(tmp_path / "none")
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"already holds a run.*resume"):
        files.check_free(tmp_path)


def test_other_outputs_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        files.check_free(tmp_path / "file")
    with pytest.raises(InputError, match="cannot make the output folder"):
        files.create(tmp_path / "file" / "inside")
    with pytest.raises(InputError, match="cannot make the output folder"):
        files.next_free("x", tmp_path / "file")
    (tmp_path / files.COMPARISON).touch()
    with pytest.raises(InputError, match="already holds a comparison"):
        files.check_free(tmp_path)


def test_plain_name() -> None:
    assert files.plain_name("top-k 1 %, error feedback") == "top-k-1-error-feedback"
    assert files.plain_name("../..") == "run"
    assert files.plain_name("hadamard | uniform(bits=4)") == "hadamard-uniform-bits-4"


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with (
        files.held(tmp_path),
        pytest.raises(InputError, match="another process is at work"),
        files.held(tmp_path),
    ):
        pass
    with files.held(tmp_path):
        assert not list(tmp_path.iterdir())


def test_commands_are_quoted_for_the_shell() -> None:
    text = files.resume_command(Path("my runs/1"))
    assert text == "fedjax-compress resume 'my runs/1'"
