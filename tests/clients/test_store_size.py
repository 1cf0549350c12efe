"""What the per-client store takes: by those who took part, not by the population."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from fedjax_compress.clients import HostStore
from fedjax_compress.errors import InputError

CHILD = """
import resource, sys
import numpy as np
from fedjax_compress.clients import HostStore
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
template = {"kernel": np.zeros((784, 62), np.float32), "bias": np.zeros(62, np.float32)}
store = HostStore(template, 1_000_000)
ids = np.arange(50) * 19_999
new = {k: np.ones((50, *v.shape), v.dtype) for k, v in template.items()}
store.scatter(ids, new)
assert (store.gather(ids[::-1])["kernel"] == 1).all()
assert not store.gather(np.array([999_999]))["kernel"].any()
row = 48_670 * 4
assert store.started == 50 and store.tree["rows"]["kernel"].nbytes == 50 * 784 * 62 * 4
print(store.nbytes, peak() - before, 50 * row)
"""


def test_a_million_clients_cost_the_fifty_that_took_part():
    """48,670 floats each: 9.7 MB are kept, put in and got out, 8 MB say who is where.

    A quarter more, and 16 MB, for the interpreter and half a block never written."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True
    )
    blocks, peak, kept = map(int, done.stdout.split())
    assert blocks <= 2**26
    assert peak < 1.25 * (3 * kept + 8_000_000) + 16_000_000


def test_files_take_disk_only_for_clients_that_took_part(tmp_path):
    template = {"mask": np.ones(1000, np.float32)}
    store = HostStore(template, 10_000_000, tmp_path, block=400_000)
    ids = np.arange(150) * 1313
    store.scatter(ids, {"mask": np.full((150, 1000), 2, np.float32)})
    files = [f.stat() for f in tmp_path.iterdir()]
    assert len(files) == 2  # of 100 rows
    assert sum(f.st_size for f in files) == store.nbytes
    assert 800_000 <= store.nbytes < 801_000
    got = store.gather(np.array([ids[-1], 3]))["mask"]
    np.testing.assert_array_equal(got[:, 0], [2, 1])


def test_a_folder_begins_anew(tmp_path):
    (tmp_path / "notes").write_text("kept")
    for _ in range(2):
        store = HostStore({"a": np.zeros(100)}, 10, tmp_path, block=800)
        assert [f.name for f in tmp_path.iterdir()] == ["notes"]
        assert not store.gather(np.arange(10))["a"].any()
        store.scatter(np.array([1, 2]), {"a": np.ones((2, 100))})


def test_blocks_are_never_moved(tmp_path):
    store = HostStore({"a": np.zeros(100)}, 1000, tmp_path, block=8000)
    store.scatter(np.array([5]), {"a": np.ones((1, 100))})
    (piece,) = store.tree["rows"]["a"].pieces()
    store.scatter(np.arange(500, 900), {"a": np.full((400, 100), 2.0)})
    store.scatter(np.array([5]), {"a": np.full((1, 100), 3.0)})
    assert (piece == 3).all()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = HostStore({"a": np.zeros(100)}, 10, tmp_path / "s", block=800)
    store.scatter(np.array([1]), {"a": np.ones((1, 100))})
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    told = r"no room for client state in .*s: No space left on device, 832 more bytes"
    with pytest.raises(InputError, match=told) as caught:
        store.scatter(np.array([1, 4]), {"a": np.full((2, 100), 2.0)})
    assert "\n" not in str(caught.value)
    assert store.started == 1
    assert jax.tree.map(np.max, store.gather(np.array([1, 4]))) == {"a": 1}
