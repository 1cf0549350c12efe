"""Checkpoints of two processes, here threads: each writes its own, one seals all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedjax_compress.clients import Rows
from fedjax_compress.errors import CheckpointError
from fedjax_compress.runtime import arrays
from fedjax_compress.runtime.checkpoint import Checkpoints, CheckpointWarning
from fedjax_compress.runtime.meeting import Link


class Two:
    """Two processes with the same folder."""

    def __init__(self, folder):
        self.folder = folder
        self.rows, self.barrier = [None, None], threading.Barrier(2)
        links = [Link(i, 2, self._gather(i)) for i in range(2)]
        self.own = [Checkpoints(folder, {"seed": 1}, link=link) for link in links]

    def _gather(self, index):
        def gather(row):
            self.rows[index] = row
            self.barrier.wait(60)
            found = np.stack(self.rows)
            self.barrier.wait(60)
            return found

        return gather

    def both(self, work):
        """What ``work(checkpoints, index)`` returns or raises in each."""

        def safe(index):
            try:
                return work(self.own[index], index)
            except CheckpointError as error:
                return error

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(safe, range(2)))

    def save(self, round):
        def work(own, index):
            own.save(round, state(round, index), {"line": round})
            own.wait()

        return self.both(work)


def state(round, index):
    """The server is the same everywhere; each has rows of its own."""
    rows = np.full((2 + index, 3), 10 * round + index, np.float32)
    return {"server": np.full(4, round), "rows": Rows([rows], len(rows), rows[0])}


def restored(two):
    """The round, the server, and all rows, as one process finds them."""
    alone = Checkpoints(two.folder, {"seed": 1})
    r, tree, _ = alone.restore(state(0, 0))
    assert (tree["server"] == r).all()
    return r, np.asarray(tree["rows"])[:, 0].tolist()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_each_writes_its_rows_and_all_come_back(tmp_path):
    two = Two(tmp_path / "c")
    for r in (1, 2, 3):
        assert two.save(r) == [None, None]
    assert names(tmp_path / "c") == ["00000002", "00000003", "part-0001"]
    assert names(tmp_path / "c" / "part-0001")[-2:] == ["00000002", "00000003"]
    assert restored(two) == (3, [30, 30, 31, 31, 31])
    found = two.both(lambda own, index: own.restore(state(0, index)))
    assert [r for r, _, _ in found] == [3, 3]
    assert [tree["rows"].shape for _, tree, _ in found] == [(5, 3), (5, 3)]


def test_a_part_that_fails_is_one_line_of_both(tmp_path, monkeypatch):
    two = Two(tmp_path / "c")
    two.save(1)
    write = arrays.write_mapped

    def full(tree, folder):
        if "part-0001" in str(folder):
            raise OSError(28, "No space left on device")
        return write(tree, folder)

    with monkeypatch.context() as patch:
        patch.setattr(arrays, "write_mapped", full)
        errors = two.save(2)
    for error in errors:
        assert isinstance(error, CheckpointError)
        assert "No space left on device" in str(error)
        assert "\n" not in str(error)
    assert "part-0001: No space" in str(errors[0])
    assert restored(two) == (1, [10, 10, 11, 11, 11])
    assert two.save(2) == [None, None]
    assert restored(two) == (2, [20, 20, 21, 21, 21])


@pytest.mark.parametrize("name", ["manifest.json", "mapped/000000.bin"])
def test_a_damaged_part_damages_the_whole_and_is_written_anew(tmp_path, name):
    two = Two(tmp_path / "c")
    two.save(1), two.save(2)
    victim = tmp_path / "c" / "part-0001" / "00000002" / name
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.warns(
        CheckpointWarning, match=f"part-0001/00000002/{name} has .* byte"
    ):
        assert restored(two) == (1, [10, 10, 11, 11, 11])
    again = Two(tmp_path / "c")
    assert again.save(2) == [None, None]
    assert restored(again) == (2, [20, 20, 21, 21, 21])


def test_parts_of_processes_that_are_gone_go_with_their_rounds(tmp_path):
    two = Two(tmp_path / "c")
    two.save(1), two.save(2)
    (tmp_path / "c" / "part-0001" / "00000009.failed").write_text("")
    (tmp_path / "c" / "part-0001" / "00000003").mkdir()  # of a killed save
    with Checkpoints(tmp_path / "c", {"seed": 1}) as alone:
        alone.save(3, state(3, 0), {})
    assert restored(two) == (3, [30, 30])
    assert names(tmp_path / "c") == ["00000002", "00000003", "part-0001"]
    assert names(tmp_path / "c" / "part-0001") == ["00000002"]
