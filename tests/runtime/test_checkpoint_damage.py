"""Damaged and unfinished checkpoints: never fewer than one to go back to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedjax_compress.errors import CheckpointError, InputError
from fedjax_compress.runtime import manifest
from fedjax_compress.runtime.checkpoint import Checkpoints, CheckpointWarning
from fedjax_compress.runtime.orbax_files import NOTES


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_damage_to_any_file_goes_back_one_loudly(tmp_path, damage, saves):
    saves.write(tmp_path / "c", [1, 2])
    names = [p.relative_to(tmp_path) for p in saves.files(tmp_path / "c" / "00000002")]
    assert len(names) > 4
    for name in names:
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        shutil.copytree(tmp_path / "c", tmp_path / "d")
        victim = tmp_path / "d" / name.relative_to("c")
        damage(victim)
        if victim.name in NOTES and victim.parent.name == "00000002":
            assert saves.newest(tmp_path / "d") == 2  # nobody reads them
            continue
        if victim.name == manifest.NAME and not victim.exists():
            assert saves.newest(tmp_path / "d") == 1  # as if it had never been finished
            continue
        inside = victim.relative_to(tmp_path / "d" / "00000002").as_posix()
        told = rf"00000002: {re.escape(inside)} .*going back to round 1"
        with pytest.warns(CheckpointWarning, match=told):
            assert saves.newest(tmp_path / "d") == 1


def test_any_byte_of_a_manifest_counts(tmp_path, saves):
    saves.write(tmp_path, [1])
    path = tmp_path / "00000001" / manifest.NAME
    data = path.read_bytes()
    for i in range(0, len(data), 3):
        flipped = bytes([data[i] ^ (1 << i % 8)])
        path.write_bytes(data[:i] + flipped + data[i + 1 :])
        with pytest.raises(manifest.Damaged):
            manifest.read(path.parent)
    path.write_bytes(data)
    assert manifest.verify(path.parent).round == 1


def test_after_going_back_the_damaged_round_is_written_anew(tmp_path, saves):
    saves.write(tmp_path, [1, 2])
    flip(saves.files(tmp_path / "00000002" / "arrays")[0])
    with pytest.warns(CheckpointWarning):
        saves.newest(tmp_path)
    assert saves.write(tmp_path, [2]).rounds() == [1, 2]
    assert saves.newest(tmp_path) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000001", "00000002"]


def test_going_back_gives_up_later_rounds(tmp_path, saves):
    saves.write(tmp_path, [10, 20])
    flip(tmp_path / "00000020" / manifest.NAME)
    assert saves.write(tmp_path, [15]).rounds() == [10, 15]
    assert saves.newest(tmp_path) == 15


def test_damaged_ones_do_not_count_as_kept(tmp_path, saves):
    saves.write(tmp_path, [1, 2])
    flip(saves.files(tmp_path / "00000002" / "arrays")[0])
    assert saves.write(tmp_path, [3]).rounds() == [1, 3]


def test_the_only_usable_one_survives_until_the_next_is_sealed(
    tmp_path, monkeypatch, saves
):
    checkpoints = saves.write(tmp_path, [1], keep=1)
    state = []
    seal = manifest.seal

    def watch(folder: Path, *rest: Any) -> None:
        state.append(saves.newest(tmp_path))
        seal(folder, *rest)
        state.append(saves.newest(tmp_path))

    monkeypatch.setattr(manifest, "seal", watch)
    for r in (2, 3):
        checkpoints.save(r, saves.small_tree(r), {"line": r})
    checkpoints.wait()
    assert state == [1, 1, 2, 2]  # a sealed one gets its name after that
    assert [p.name for p in tmp_path.iterdir()] == ["00000003"]


def test_an_intact_round_is_not_written_again(tmp_path, saves):
    """Unless it is of another run."""
    checkpoints = saves.write(tmp_path, [1], keep=1)
    before = {p: p.stat().st_mtime_ns for p in saves.files(tmp_path)}
    checkpoints.save(1, saves.small_tree(1), {"line": 1})
    checkpoints.wait()
    assert {p: p.stat().st_mtime_ns for p in saves.files(tmp_path)} == before
    with Checkpoints(tmp_path, {"seed": 2}) as other:
        other.save(1, saves.small_tree(5), {})
    assert other.restore(saves.small_tree(0))[1]["a"].flat[0] == 5


def test_unfinished_saves_are_ignored_then_removed(tmp_path, saves):
    saves.write(tmp_path, [1, 2])
    (tmp_path / "00000002" / manifest.NAME).unlink()
    (tmp_path / "00000003" / "arrays.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    checkpoints = Checkpoints(tmp_path, saves.fingerprint)
    assert checkpoints.rounds() == [1]
    assert saves.newest(tmp_path) == 1
    saves.write(tmp_path, [4])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "00000001",
        "00000004",
        "notes",
    ]


def test_no_usable_checkpoint_says_where_and_why(tmp_path, saves):
    where = re.escape(str(tmp_path / "c"))
    checkpoints = Checkpoints(tmp_path / "c", saves.fingerprint)
    with pytest.raises(CheckpointError, match=f"{where}: there is no such folder"):
        checkpoints.restore(())
    (tmp_path / "c").mkdir()
    with pytest.raises(CheckpointError, match=f"{where}: the folder holds none"):
        checkpoints.restore(())
    (tmp_path / "c" / "00000003.orbax-checkpoint-tmp").mkdir()
    with pytest.raises(CheckpointError, match="none was written to its end"):
        checkpoints.restore(())
    saves.write(tmp_path / "c", [1, 2])
    flip(tmp_path / "c" / "00000001" / manifest.NAME)
    truncate(tmp_path / "c" / "00000002" / "arrays" / "_METADATA")
    told = r"all are damaged \(00000002: .*_METADATA has .*; 00000001: manifest"
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoints.restore(saves.small_tree(0))
    assert "\n" not in str(caught.value)


def test_only_the_newest_are_kept(tmp_path, saves):
    assert saves.write(tmp_path, [1, 2, 3, 4, 5], keep=3).rounds() == [3, 4, 5]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "00000003",
        "00000004",
        "00000005",
    ]
    with pytest.raises(InputError, match="keep must be at least 1"):
        Checkpoints(tmp_path, {}, keep=0)
