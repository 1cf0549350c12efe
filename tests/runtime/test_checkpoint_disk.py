"""Checkpoints on a disk that is full or cannot be written: one line, no harm."""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from fedjax_compress.errors import CheckpointError
from fedjax_compress.runtime.checkpoint import Checkpoints


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing a file beyond ``size`` bytes fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, saves):
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file" / "c", saves.fingerprint)
    told = r"cannot write the checkpoint of round 5 .*Not a directory; there is none"
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoints.save(5, saves.small_tree(5), {})
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_harms_nothing(tmp_path, monkeypatch, saves):
    checkpoints = saves.write(tmp_path, [1])
    usage = shutil.disk_usage(tmp_path)._replace(free=2**18 + 51)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    told = "round 2 .*No space left on device: 262196 bytes are needed, 262195 are"
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoints.save(2, saves.small_tree(2), {})
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["00000001"]


# Orbax leaves other writes behind when one fails, and closes their event loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fills_up_while_writing(tmp_path, saves):
    checkpoints = saves.write(tmp_path, [1])
    noise = np.random.default_rng(0).integers(0, 256, 400_000, np.uint8)
    with file_size_limit(100_000):
        checkpoints.save(2, {"a": noise}, {})
        told = "cannot write the checkpoint of round 2 .*the last one is of round 1"
        with pytest.raises(CheckpointError, match=told) as caught:
            checkpoints.wait()
    assert "\n" not in str(caught.value)
    assert checkpoints.rounds() == [1]
    assert saves.newest(tmp_path) == 1
    checkpoints.save(3, saves.small_tree(3), {"line": 3})
    checkpoints.wait()
    assert saves.newest(tmp_path) == 3


def test_a_full_disk_under_a_memory_mapped_leaf(tmp_path, saves):
    leaf = np.memmap(tmp_path / "x", np.uint8, mode="w+", shape=(400_000,))
    checkpoints = Checkpoints(tmp_path / "c", saves.fingerprint)
    with file_size_limit(100_000):
        checkpoints.save(1, {"a": leaf}, {})
        with pytest.raises(CheckpointError, match=r"cannot write .*File too large"):
            checkpoints.wait()
    assert list((tmp_path / "c").iterdir()) == []
