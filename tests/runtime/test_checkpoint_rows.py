"""Checkpoints of client state that grows with the clients that took part."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.clients import HostStore, Rows
from fedjax_compress.errors import CheckpointError
from fedjax_compress.runtime import arrays, manifest
from fedjax_compress.runtime.checkpoint import Checkpoints

TEMPLATE = {"a": np.zeros((7, 3), np.float32), "b": np.ones(5, jnp.bfloat16)}
ROW = 7 * 3 * 4 + 5 * 2
EVERYBODY = np.arange(200)


@pytest.fixture(params=["copied", "written at once", "folder"])
def new_store(request, tmp_path, monkeypatch):
    """Makes an empty store of 200 clients, in blocks of 4 rows, of each kind."""
    if request.param == "written at once":
        monkeypatch.setattr(arrays, "COPIED", 0)
    folder = (f"store-{i}" for i in range(9))

    def make():
        inside = tmp_path / next(folder) if request.param == "folder" else None
        return HostStore(TEMPLATE, 200, inside, block=4 * ROW)

    return make


def take_part(store, ids, value):
    ids = np.asarray(ids)
    store.scatter(
        ids,
        jax.tree.map(lambda x: np.full((len(ids), *x.shape), value, x.dtype), TEMPLATE),
    )


def test_each_checkpoint_holds_those_who_had_taken_part(tmp_path, saves, new_store):
    store, checkpoints = new_store(), Checkpoints(tmp_path / "c", saves.fingerprint, 9)
    sizes, states = [], []
    for r in range(4):  # the first one is of nobody
        checkpoints.save(r, {"store": store.tree, "round": r}, {})
        states.append(store.gather(EVERYBODY))
        take_part(store, [r, 50 + 7 * r, 3, *range(100, 100 + r)], r + 1)
        checkpoints.wait()
        folder = tmp_path / "c" / f"{r:08d}"
        leaves = manifest.read(folder).leaves
        sizes.append(sum(f.stat().st_size for f in folder.glob("mapped/*.bin")))
        assert [leaf[:2] for leaf in leaves if "rows/a" in leaf[0]] == [
            ["store/rows/a", [sizes[-1] // (ROW + 4), 7, 3]]
        ]
    assert sizes == [n * (ROW + 4) for n in (0, 3, 6, 9)]
    for r in (3, 2, 1, 0):
        fresh = new_store()
        checkpoints = Checkpoints(tmp_path / "c", saves.fingerprint)
        found, tree, _ = checkpoints.restore({"store": fresh.tree, "round": 0})
        assert found == tree["round"] == r
        assert all(isinstance(x, Rows) for x in jax.tree.leaves(tree["store"]))
        fresh.load(tree["store"])
        saves.assert_identical(fresh.gather(EVERYBODY), states[r])
        (tmp_path / "c" / f"{r:08d}" / manifest.NAME).unlink()


def test_clients_may_take_part_while_a_save_is_written(
    tmp_path, saves, new_store, monkeypatch
):
    """The writing thread is held until everything has been changed."""
    changed, write_file, held = threading.Event(), arrays._write_file, []

    def late(*given):
        if threading.current_thread() is not threading.main_thread():
            held.append(changed.wait(20))
        write_file(*given)

    monkeypatch.setattr(arrays, "_write_file", late)
    store, checkpoints = new_store(), Checkpoints(tmp_path / "c", saves.fingerprint)
    take_part(store, range(0, 90, 7), 2)
    take_part(store, range(0, 90, 5), 3)
    before = store.gather(EVERYBODY)
    checkpoints.save(1, store.tree, {})
    take_part(store, range(200), -1)
    changed.set()
    checkpoints.wait()
    assert all(held)
    # In memory: ids, a, b. In a folder: ids.
    assert len(held) == ((1 if store.folder else 3) if arrays.COPIED else 0)
    fresh = new_store()
    fresh.load(checkpoints.restore(fresh.tree)[1])
    saves.assert_identical(fresh.gather(EVERYBODY), before)
    # The store that has gone on may go back as well.
    store.load(checkpoints.restore(store.tree)[1])
    saves.assert_identical(store.gather(EVERYBODY), before)
    assert store.started == fresh.started == len({*range(0, 90, 7), *range(0, 90, 5)})


def test_restored_rows_outlive_their_checkpoint(tmp_path, saves):
    store, checkpoints = HostStore(TEMPLATE, 200), Checkpoints(tmp_path, {}, keep=1)
    take_part(store, [3, 4], 5)
    before = store.gather(EVERYBODY)
    checkpoints.save(1, store.tree, {})
    tree = checkpoints.restore(store.tree)[1]
    for r in (2, 3):
        take_part(store, [3, 4], r)
        checkpoints.save(r, store.tree, {})
    checkpoints.wait()
    assert checkpoints.rounds() == [3]
    store.load(tree)
    saves.assert_identical(store.gather(EVERYBODY), before)


def test_rows_fit_plain_arrays_of_their_shape_and_back(tmp_path, saves):
    store, checkpoints = HostStore(TEMPLATE, 200), Checkpoints(tmp_path, {})
    take_part(store, [9, 2], 5)
    plain = jax.tree.map(np.asarray, store.tree)
    checkpoints.save(1, store.tree, {})
    saves.assert_identical(checkpoints.restore(plain)[1], plain)
    checkpoints.save(2, plain, {})
    back = checkpoints.restore(HostStore(TEMPLATE, 200).tree)[1]
    saves.assert_identical(jax.tree.map(np.asarray, back), plain)


def test_all_but_the_number_of_rows_must_fit(tmp_path):
    store, checkpoints = HostStore(TEMPLATE, 200), Checkpoints(tmp_path, {})
    take_part(store, [9, 2], 5)
    checkpoints.save(1, store.tree, {})
    other = {
        r"rows/a float32\[2, 7, 3\] where rows/a float32\[any, 7, 4\]": (7, 4),
        r"rows/a float32\[2, 7, 3\] where rows/a float32\[any, 7\]": (7,),
    }
    for told, shape in other.items():
        template = {**TEMPLATE, "a": np.zeros(shape, np.float32)}
        with pytest.raises(CheckpointError, match=f"{told} is expected"):
            checkpoints.restore(HostStore(template, 200).tree)
    half = {**TEMPLATE, "a": TEMPLATE["a"].astype(np.float16)}
    with pytest.raises(CheckpointError, match=r"where rows/a float16\[any, 7, 3\]"):
        checkpoints.restore(HostStore(half, 200).tree)
    plain = jax.tree.map(lambda x: np.zeros((3, *x.shape[1:]), x.dtype), store.tree)
    with pytest.raises(CheckpointError, match=r"ids int32\[2\] where ids int32\[3\]"):
        checkpoints.restore(plain)


def test_rows_for_every_client_as_saved_by_version_0_1_0_are_refused(tmp_path):
    rows = jax.tree.map(lambda x: np.zeros((200, *x.shape), x.dtype), TEMPLATE)
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.save(1, {"started": np.zeros(200, bool), "rows": rows}, {})
    told = r"holds rows/a float32\[200, 7, 3\] where ids int32\[any\] is expected"
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoints.restore(HostStore(TEMPLATE, 200).tree)
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_up_under_rows(tmp_path, saves, new_store):
    store, checkpoints = new_store(), saves.write(tmp_path / "c", [1])
    take_part(store, range(190), 5)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    told = "round 2 .*File too large; the last one is of round 1"
    try:
        with pytest.raises(CheckpointError, match=told), checkpoints:
            checkpoints.save(2, store.tree, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["00000001"]
    assert saves.newest(tmp_path / "c") == 1


CLIENTS = 3000

CHILD = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np
from fedjax_compress.clients import HostStore
from fedjax_compress.runtime import arrays, checkpoint
arrays.COPIED = int(sys.argv[2])
store = HostStore(np.zeros(500, np.float32), 3000, sys.argv[3] or None, block=100_000)
checkpoints = checkpoint.Checkpoints(sys.argv[1], {}, keep=2)
for r in range(1, 100_000):
    ids = np.random.default_rng(r).choice(3000, 100, replace=False)
    store.scatter(ids, np.full((100, 500), r, np.float32))
    checkpoints.save(r, store.tree, {})
    print(r, flush=True)
"""


@pytest.mark.parametrize(
    ("copied", "folder"), [(2**30, ""), (0, ""), (0, "store")], ids=str
)
def test_a_killed_process_leaves_the_state_of_one_round(tmp_path, copied, folder):
    """Every client's row holds the last round it took part in, up to the saved one."""
    where = str(tmp_path / folder) if folder else ""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "c"), str(copied), where],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for r in range(1, 7):
        assert child.stdout.readline() == f"{r}\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    store = HostStore(np.zeros(500, np.float32), CLIENTS)
    r, tree, _ = Checkpoints(tmp_path / "c", {}).restore(store.tree)
    assert r >= 5  # save 6 has waited for save 5
    store.load(tree)
    expected = np.zeros(CLIENTS)
    for i in range(1, r + 1):
        ids = np.random.default_rng(i).choice(CLIENTS, 100, replace=False)
        expected[ids] = i
    found = store.gather(np.arange(CLIENTS))
    np.testing.assert_array_equal(found, np.tile(expected[:, None], (1, 500)))
